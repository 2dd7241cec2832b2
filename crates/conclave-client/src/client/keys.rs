//! Keys of channels and machines: announced, fetched, checked, and brought to who lacks them.

use super::{Client, random};
use crate::book::keys::SealTo;
use crate::error::ClientError;
use crate::event::{Event, Notice, NoticeKind};
use crate::home::HomeError;
use crate::keystore::{Generation, MachineKeys, VALID_MS};
use crate::owner::Owner;
use conclave_e2ee::{ChannelKey, EncryptionSecret, Place, wrap};
use conclave_proto::channel_log::{ChannelLog, Identities as _, Mode, Role, Visibility};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::op::{EkFetch, EkPublish, Wrap, WrapFetch, WrapMissing, WrapPut};
use conclave_proto::frame::reply::EpochWrap;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, LogId, UserId};
use conclave_proto::key::HolderKey;
use conclave_proto::limit::HOLDERS_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many wraps a helper brings a second.
const WRAPS_PER_S: usize = 50;

impl Client {
    /// Finds out how to seal for a log: a channel's mode and newest key, made anew where the membership
    /// or age asks for it; or the key of a recipient.
    pub(crate) async fn prepare(
        &self,
        log: LogId,
        to: Option<&SessionPath>,
    ) -> Result<(), ClientError> {
        let channel = match (log, to) {
            (LogId::Channel(channel), _) => channel,
            (LogId::Mailbox(_), Some(to)) => return self.learn_recipient(to).await,
            (LogId::Mailbox(_), None) => return Ok(()),
        };
        let tip = self.tip(channel).await?;
        if tip.mode() == Mode::Signed {
            return Ok(());
        }
        may_send(&tip, &self.info.account.user_id)?;
        let old = move |core: &mut crate::core::Core| core.needs_rotation(&channel);
        if self.with(old).await? {
            self.rotate_if_needed(channel).await?;
        }
        // Somebody else may have been first.
        if !self.has_key(channel).await? {
            self.fetch_keys(channel).await?;
        }
        match self.has_key(channel).await? {
            true => Ok(()),
            false => Err(pending()),
        }
    }

    /// Finds out how to seal what this session says of itself in a channel. Who may send makes the next
    /// key if the membership asks for one; readers wait for it.
    pub(crate) async fn prepare_profile(&self, channel: ChannelId) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        if tip.mode() == Mode::Signed {
            return Ok(());
        }
        let old = move |core: &mut crate::core::Core| core.book.must_rotate(&channel);
        if may_send(&tip, &self.info.account.user_id).is_ok() && self.with(old).await? {
            self.rotate_if_needed(channel).await?;
        }
        if !self.has_key(channel).await? {
            self.fetch_keys(channel).await?;
        }
        match self.has_key(channel).await? && !self.with(old).await? {
            true => Ok(()),
            false => Err(pending()),
        }
    }

    async fn learn_recipient(&self, to: &SessionPath) -> Result<(), ClientError> {
        let user = self.find_user(&to.user).await?;
        let machine = to.machine.clone();
        let find = move |core: &mut crate::core::Core| {
            let machine = core.book.identity(&user)?.machine_named(&machine)?;
            Some(HolderKey::from(machine.key))
        };
        let mut holder = self.with(find.clone()).await?;
        if holder.is_none() {
            self.learn(user).await?;
            holder = self.with(find).await?;
        }
        let Some(holder) = holder else {
            let text = format!("{} has no machine {}", to.user, to.machine);
            return Err(Reject::new(Code::NotFound, text).into());
        };
        self.fetch_announcements(&[holder]).await
    }

    /// Returns whether what is said in a channel waits for its key, as far as this machine knows.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn lacks_key(&self, channel: ChannelId) -> Result<bool, ClientError> {
        self.with(move |core| {
            let sealed = core.book.tip(&channel);
            let sealed = sealed.is_some_and(|tip| tip.mode() == Mode::E2e);
            sealed && core.book.current_key(&channel).is_none()
        })
        .await
    }

    pub(crate) async fn has_key(&self, channel: ChannelId) -> Result<bool, ClientError> {
        self.with(move |core| core.book.current_key(&channel).is_some())
            .await
    }

    /// Renews this machine's encryption key if it is time, and tells the server of it.
    pub(crate) async fn announce(&self) -> Result<(), ClientError> {
        let server = self.info.server;
        let home = self.info.home.clone();
        let renew = move || MachineKeys::renew(&home, &server, crate::link::wall());
        let keys = on_disk(renew).await?;
        self.set_own(&keys).await?;
        let Some(newest) = keys.last().filter(|key| key.announced.is_none()) else {
            return Ok(());
        };
        let (number, key) = (newest.number, newest.secret.public());
        let not_after = newest.since.plus(VALID_MS);
        let machine = &self.info.secret;
        let rec = Announcement::sign_machine(server, machine, number, key, not_after);
        let rec = rec.bytes().clone();
        self.request(Op::EkPublish(EkPublish { rec })).await?;
        let home = self.info.home.clone();
        on_disk(move || MachineKeys::announced(&home, &server, number, crate::link::wall())).await
    }

    async fn set_own(&self, keys: &[Generation]) -> Result<(), ClientError> {
        let own = keys.iter().map(|key| (key.number, key.secret.clone()));
        let own: Vec<(u32, EncryptionSecret)> = own.collect();
        self.with(move |core| core.book.keys.set_own(own)).await
    }

    /// Reads this machine's encryption keys anew: another session may have made the next one.
    pub(crate) async fn reload_own(&self) -> Result<(), ClientError> {
        let (home, server) = (self.info.home.clone(), self.info.server);
        match on_disk(move || MachineKeys::load(&home, &server)).await? {
            Some(keys) => self.set_own(&keys.encryption).await,
            None => Ok(()),
        }
    }

    /// Tells the server the encryption key of an owner key, so that channel keys are sealed to it, too.
    pub(crate) async fn announce_owner(&self, owner: &Owner) -> Result<(), ClientError> {
        let key = EncryptionSecret::of_owner(owner.secret()).public();
        let rec = Announcement::sign_owner(self.info.server, owner.secret(), key);
        let rec = rec.bytes().clone();
        self.request(Op::EkPublish(EkPublish { rec }))
            .await
            .map(drop)
    }

    /// Fetches and checks the newest encryption keys of holders.
    pub(crate) async fn fetch_announcements(
        &self,
        holders: &[HolderKey],
    ) -> Result<(), ClientError> {
        for part in holders.chunks(HOLDERS_MAX) {
            let holders = part.to_vec();
            let op = Op::EkFetch(EkFetch {
                holders: holders.clone(),
            });
            let Reply::Eks(eks) = self.request(op).await? else {
                return Err(ClientError::Answer);
            };
            let now = crate::link::wall();
            let (news, older) = self
                .with(move |core| core.book.take_announcements(&eks.recs, &holders, now))
                .await?;
            if older {
                let text = "the server showed an encryption key that its holder has replaced";
                self.notice(NoticeKind::GhostKey, None, text.to_owned())
                    .await?;
            }
            if !news.is_empty() {
                self.replica().keep_announcements(news).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn notice(
        &self,
        kind: NoticeKind,
        channel: Option<ChannelId>,
        text: String,
    ) -> Result<(), ClientError> {
        tracing::warn!(kind = kind.as_str(), "{text}");
        let notice = Notice {
            kind,
            log: channel.map(LogId::Channel),
            seq: None,
            text,
        };
        self.with(move |core| core.tell(Event::Notice(notice)))
            .await
    }

    /// Fetches what this machine lacks of a channel's keys: from another session's store, or as wraps.
    pub(crate) async fn fetch_keys(&self, channel: ChannelId) -> Result<(), ClientError> {
        let awaited = move |core: &mut crate::core::Core| core.awaited(&channel);
        let wanted = self.with(awaited).await?.map(|place| place.e);
        self.fetch_keys_for(channel, wanted).await
    }

    /// As [`Client::fetch_keys`], where the key of one epoch in particular is wanted.
    pub(crate) async fn fetch_keys_for(
        &self,
        channel: ChannelId,
        wanted: Option<u32>,
    ) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        let Some(newest) = tip.epoch().map(|epoch| epoch.e) else {
            return Ok(());
        };
        let stored = self.replica().channel_keys(Some(channel)).await?;
        // Each was checked against its commitment before it was stored.
        let add = move |core: &mut crate::core::Core| {
            stored
                .into_iter()
                .for_each(|key| core.book.keys.add_channel(key));
        };
        self.with(add).await?;
        let lacks = move |core: &mut crate::core::Core| {
            let held = |e: u32| core.book.keys.channel(Place { channel, e }).is_some();
            (!held(newest), wanted.filter(|e| !held(*e)))
        };
        let (lacks_newest, hole) = self.with(lacks).await?;
        if lacks_newest || hole.is_some() {
            self.reload_own().await?;
            let machine = HolderKey::from(self.info.secret.machine_key());
            let own = self.with(|core| core.book.keys.own_all()).await?;
            if lacks_newest {
                self.fetch_wraps(&tip, newest, machine, &own).await?;
            }
            // Where no chain leads back to an older key, it was perhaps sealed to us directly.
            let complete = self.with(move |core| core.book.lacks(&channel)).await?;
            if complete.is_some() {
                let from = hole.unwrap_or(1);
                self.fetch_wraps(&tip, from, machine, &own).await?;
            }
        }
        self.refresh(channel, newest).await
    }

    /// Fetches wraps of epochs from `from` on, opens them, and asks for others in place of bad ones.
    async fn fetch_wraps(
        &self,
        tip: &ChannelLog,
        from: u32,
        holder: HolderKey,
        own: &[(u32, EncryptionSecret)],
    ) -> Result<(), ClientError> {
        let channel = *tip.id();
        let mut unusable = Vec::new();
        for _ in 0..2 {
            let op = WrapFetch {
                channel,
                from,
                holder,
                unusable: std::mem::take(&mut unusable),
            };
            let Reply::Wraps(page) = self.request(Op::WrapFetch(op)).await? else {
                return Err(ClientError::Answer);
            };
            let mut found = Vec::new();
            for EpochWrap {
                e,
                generation,
                sealed,
            } in page.wraps
            {
                let wrapped = Wrap {
                    to: holder,
                    generation,
                    sealed,
                };
                let place = Place { channel, e };
                // Another session of this machine has the key, or it is gone: no fault of the wrap.
                let Some((_, with)) = own.iter().find(|(number, _)| *number == generation) else {
                    continue;
                };
                // Of an epoch that came after the chain was read: nothing to judge it by yet.
                let Some(epoch) = tip.epoch_at(e) else {
                    continue;
                };
                match wrap::open(&wrapped, place, &epoch.commit, with) {
                    Some(key) => found.push(key),
                    None => unusable.push(e),
                }
            }
            self.take_keys(channel, found).await?;
            if unusable.is_empty() {
                break;
            }
            tracing::warn!(%channel, "wraps that do not open are thrown away");
        }
        Ok(())
    }

    /// Takes channel keys, with every older one they lead to, and keeps them.
    pub(crate) async fn take_keys(
        &self,
        channel: ChannelId,
        keys: Vec<ChannelKey>,
    ) -> Result<(), ClientError> {
        let new = self
            .with(move |core| {
                let unlock =
                    |key: &ChannelKey| core.book.unlock(channel, key.place().e, key.bytes());
                keys.iter().flat_map(unlock).collect::<Vec<_>>()
            })
            .await?;
        if !new.is_empty() {
            self.replica().keep_channel_keys(new).await?;
        }
        Ok(())
    }

    /// Reads name, topic and index key anew, and forgets keys of what nobody keeps any more.
    async fn refresh(&self, channel: ChannelId, newest: u32) -> Result<(), ClientError> {
        let wall = crate::link::wall();
        let server_keeps = self
            .live()
            .map_or(0, |ready| ready.limits.message_retention_ms);
        let (changed, oversteps, cut, lapsed) = self
            .with(move |core| {
                let changed = core.book.refresh_bundle(&channel);
                if changed.is_some() {
                    core.tell(Event::ChannelChanged(channel));
                }
                // By the earlier clock: a wrong one, here or there, must not cost keys.
                let now = wall.min(core.server_now());
                let lapsed = core.book.lapsed_below(&channel, now, server_keeps);
                if let Some(below) = lapsed {
                    core.book.keys.forget_below(channel, below);
                }
                let oversteps = core.book.oversteps(&channel, newest);
                (
                    changed,
                    oversteps,
                    core.book.cuts_off(&channel, newest),
                    lapsed,
                )
            })
            .await?;
        if let Some(bundle) = changed {
            self.replica().keep_bundle(channel, &bundle).await?;
        }
        if let Some(below) = lapsed {
            self.replica().forget_channel_keys(channel, below).await?;
        }
        if cut {
            let text = "a member's new key does not lead back to the one before: who joins later cannot read the past";
            self.notice(NoticeKind::BadEpoch, Some(channel), text.to_owned())
                .await?;
        }
        if oversteps {
            let text =
                "a member changed name, topic or index key without the right to: the old ones stay";
            self.notice(NoticeKind::BadEpoch, Some(channel), text.to_owned())
                .await?;
        }
        Ok(())
    }

    /// Brings the newest key of a channel to the members that lack it: those who are entitled by the
    /// signed logs, never those a server names.
    pub(crate) async fn repair(&self, channel: ChannelId) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        if tip.mode() != Mode::E2e || tip.needs_epoch() || !self.has_key(channel).await? {
            return Ok(());
        }
        let op = Op::WrapMissing(WrapMissing { channel });
        let Reply::Missing(missing) = self.request(op).await? else {
            return Err(ClientError::Answer);
        };
        let log = tip.clone();
        let entitled = self.with(move |core| log.holders(&core.book)).await?;
        let (wanted, ghosts): (Vec<HolderKey>, Vec<HolderKey>) = missing
            .holders
            .into_iter()
            .partition(|holder| entitled.contains_key(holder));
        if !ghosts.is_empty() {
            let text = "the server asked for the channel's key for a machine that is no member's";
            self.notice(NoticeKind::GhostKey, Some(channel), text.to_owned())
                .await?;
        }
        let key = self
            .with(move |core| core.book.current_key(&channel).cloned())
            .await?;
        let Some(key) = key.filter(|key| key.place().e == missing.e) else {
            return Ok(());
        };
        let wanted: BTreeMap<HolderKey, UserId> = wanted
            .into_iter()
            .filter_map(|holder| Some((holder, *entitled.get(&holder)?)))
            .collect();
        let wraps = self.wraps(&key, &wanted).await?;
        for (n, part) in wraps.chunks(WRAPS_PER_S).enumerate() {
            if n > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let op = WrapPut {
                channel,
                e: key.place().e,
                wraps: part.to_vec(),
            };
            self.request(Op::WrapPut(op)).await?;
        }
        Ok(())
    }

    /// Seals a channel key to holders, as far as their encryption keys count.
    pub(crate) async fn wraps(
        &self,
        key: &ChannelKey,
        holders: &BTreeMap<HolderKey, UserId>,
    ) -> Result<Vec<Wrap>, ClientError> {
        let asked: Vec<HolderKey> = holders.keys().copied().collect();
        self.fetch_announcements(&asked).await?;
        let (holders, now) = (holders.clone(), crate::link::wall());
        let targets = self
            .with(move |core| {
                let target =
                    |(holder, user): (HolderKey, UserId)| core.book.seal_to(&user, &holder, now);
                holders.into_iter().filter_map(target).collect::<Vec<_>>()
            })
            .await?;
        let mut drawn = Vec::with_capacity(targets.len());
        for target in targets {
            drawn.push((target, random()?));
        }
        Ok(seal_all(key, &drawn))
    }

    /// Opens the keys of every channel of this user that were sealed to one of its owner keys, and seals
    /// them to this machine: what comes back after all machines were lost.
    pub(crate) async fn recover_keys(&self, owner: &Owner) -> Result<(), ClientError> {
        let holder = HolderKey::from(owner.secret().owner_key());
        let own = [(0, EncryptionSecret::of_owner(owner.secret()))];
        for info in self.channels().await? {
            if info.role.is_none() || info.mode != Mode::E2e.as_str() {
                continue;
            }
            let tip = self.tip(info.channel).await?;
            let Some(newest) = tip.epoch().map(|epoch| epoch.e) else {
                continue;
            };
            self.fetch_wraps(&tip, newest, holder, &own).await?;
            if self
                .with(move |core| core.book.lacks(&info.channel))
                .await?
                .is_some()
            {
                self.fetch_wraps(&tip, 1, holder, &own).await?;
            }
            self.refresh(info.channel, newest).await?;
            self.repair(info.channel).await?;
        }
        Ok(())
    }
}

/// Does something with the keystore beside the runtime: it may wait for another process's lock.
async fn on_disk<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, HomeError> + Send + 'static,
) -> Result<T, ClientError> {
    let done = tokio::task::spawn_blocking(act).await;
    Ok(done.map_err(|_| ClientError::Closed)??)
}

/// Refuses, in the server's words, what needs no key because it will not be taken anyway.
fn may_send(tip: &ChannelLog, me: &UserId) -> Result<(), Reject> {
    let refusal = match tip.role(me) {
        _ if tip.is_closed() => (Code::Frozen, "the channel is closed"),
        _ if tip.is_frozen() => (Code::Frozen, "the channel is frozen"),
        None if tip.visibility() == Visibility::Private => (Code::NotFound, "no such channel"),
        None => (Code::Forbidden, "join the channel first"),
        Some(role) if role < Role::Member => (Code::Forbidden, "readers cannot send"),
        Some(_) => return Ok(()),
    };
    Err(Reject::new(refusal.0, refusal.1))
}

/// Seals one key to many, on all cores where there are enough of them.
fn seal_all(key: &ChannelKey, targets: &[(SealTo, [u8; 32])]) -> Vec<Wrap> {
    let seal = |part: &[(SealTo, [u8; 32])]| -> Vec<Wrap> {
        let seal = |(to, drawn): &(SealTo, [u8; 32])| {
            // A key that is no point of the curve was never one to seal to.
            wrap::seal(key, to.holder, to.generation, &to.key, *drawn).ok()
        };
        part.iter().filter_map(seal).collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = targets.len().div_ceil(cores).max(16);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for part in targets.chunks(share) {
            threads.push((part, scope.spawn(move || seal(part))));
        }
        let mut wraps = Vec::with_capacity(targets.len());
        for (part, thread) in threads {
            wraps.extend(thread.join().unwrap_or_else(|_| seal(part)));
        }
        wraps
    })
}

/// The refusal while a channel's key is not on this machine.
pub(crate) fn pending() -> ClientError {
    Reject::new(
        Code::KeysPending,
        "the channel's key is not on this machine yet",
    )
    .into()
}
