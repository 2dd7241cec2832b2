//! Keys that this machine holds: of channels, its own, and the newest ones seen of others. Pure.

use super::Book;
use conclave_e2ee::{Bundle, ChannelKey, EncryptionSecret, Place};
use conclave_proto::channel_log::{ChannelLog, History, Identities as _, Mode};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::id::{Blob, ChannelId, Hash, RecipientKeyId, UserId};
use conclave_proto::key::{EncryptionKey, HolderKey, MachineKey, OwnerKey};
use conclave_proto::limit::ENCRYPTION_KEY_MS_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::{HashMap, HashSet};

/// How old an epoch gets, in milliseconds.
const ROTATE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// For how many days keys are kept at least, whatever a server says of its retention.
const KEEP_DAYS_MIN: u64 = 7;
/// How long an announcement counts as the newest, in milliseconds.
const ASK_AGAIN_MS: u64 = 60 * 60 * 1000;
/// How many entries an epoch lasts.
const ROTATE_ENTRIES: u64 = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub struct KeyRing {
    channels: HashMap<Place, ChannelKey>,
    own: Vec<(u32, EncryptionSecret)>,
    /// The newest announcement of each holder, with its bytes.
    announced: HashMap<HolderKey, (Announcement, Blob)>,
    bundles: HashMap<ChannelId, Bundle>,
    /// When this process asked for the announcements of holders.
    asked: HashMap<HolderKey, UnixMs>,
}

/// What can be sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealTo {
    /// Who holds the key.
    pub holder: HolderKey,
    /// Its generation.
    pub generation: u32,
    /// The key.
    pub key: EncryptionKey,
}

impl KeyRing {
    /// Takes this machine's own encryption keys, in place of those before.
    pub fn set_own(&mut self, own: Vec<(u32, EncryptionSecret)>) {
        self.own = own;
    }

    /// Returns this machine's own keys, by generation.
    #[must_use]
    pub fn own_all(&self) -> Vec<(u32, EncryptionSecret)> {
        self.own.clone()
    }

    /// Returns this machine's own key of an id.
    #[must_use]
    pub fn own_named(&self, id: &RecipientKeyId) -> Option<&EncryptionSecret> {
        self.own
            .iter()
            .map(|(_, key)| key)
            .find(|key| key.id() == *id)
    }

    /// Returns the key of an epoch.
    #[must_use]
    pub fn channel(&self, place: Place) -> Option<&ChannelKey> {
        self.channels.get(&place)
    }

    /// Takes a channel key, which was checked against its commitment.
    pub fn add_channel(&mut self, key: ChannelKey) {
        self.channels.insert(key.place(), key);
    }

    /// Forgets keys of a channel below an epoch.
    pub fn forget_below(&mut self, channel: ChannelId, below: u32) {
        self.channels
            .retain(|place, _| place.channel != channel || place.e >= below);
    }

    /// Returns what members know of a channel and the server does not.
    #[must_use]
    pub fn bundle(&self, channel: &ChannelId) -> Option<&Bundle> {
        self.bundles.get(channel)
    }

    /// Takes what members know of a channel.
    pub fn set_bundle(&mut self, channel: ChannelId, bundle: Bundle) {
        self.bundles.insert(channel, bundle);
    }

    /// Takes an announcement; `false` if a newer generation of its holder is known.
    pub fn announce(&mut self, new: Announcement, rec: Blob) -> bool {
        let holder = new.holder_key();
        let known = self.announced(&holder);
        if known.is_some_and(|known| known.generation > new.generation) {
            return false;
        }
        self.announced.insert(holder, (new, rec));
        true
    }

    /// Returns the newest announcement seen of a holder.
    #[must_use]
    pub fn announced(&self, holder: &HolderKey) -> Option<&Announcement> {
        self.announced.get(holder).map(|(read, _)| read)
    }
}

impl Book {
    /// Returns the newest key of an epoch's holder that may be sealed to now; `None` where it lapsed
    /// or, for an owner key, was never announced.
    #[must_use]
    pub fn seal_to(&self, user: &UserId, holder: &HolderKey, now: UnixMs) -> Option<SealTo> {
        let holder = *holder;
        let identity = self.identity(user)?;
        let machine = MachineKey::new(*holder.as_bytes());
        let owner = OwnerKey::new(*holder.as_bytes());
        let machine = identity.machine(&machine);
        if machine.is_none() && !identity.is_owner(&owner) {
            // Revoked since, as far as is known here, whatever the channel goes by.
            return None;
        }
        if let Some(known) = self.keys.announced(&holder) {
            return (now <= known.not_after).then_some(SealTo {
                holder,
                generation: known.generation,
                key: known.key,
            });
        }
        // The first key lapses like any other: who hides its successors gains nothing for long.
        let machine = machine.filter(|m| now <= m.since.plus(ENCRYPTION_KEY_MS_MAX))?;
        Some(SealTo {
            holder,
            generation: 0,
            key: machine.encryption_key,
        })
    }

    /// Returns the key a whisper to a session is sealed to now; `None` if something of it is not known.
    ///
    /// # Errors
    /// [`Code::NotFound`] without such a machine, [`Code::Unauthorized`] where the name has become another
    /// user's, [`Code::KeysPending`] where the machine's key has lapsed.
    pub fn whisper_key(
        &self,
        to: &SessionPath,
        now: UnixMs,
    ) -> Result<Option<EncryptionKey>, Reject> {
        let Some(pin) = self.pinned(&to.user) else {
            return Ok(None);
        };
        if pin.changed {
            let text = format!(
                "{} is another user than before; see `conclave verify`",
                to.user
            );
            return Err(Reject::new(Code::Unauthorized, text));
        }
        let Some(machine) = self
            .identity(&pin.user)
            .and_then(|log| log.machine_named(&to.machine))
        else {
            return Ok(None);
        };
        let holder = HolderKey::from(machine.key);
        let asked = self.keys.asked.get(&holder);
        if asked.is_none_or(|at| now >= at.plus(ASK_AGAIN_MS)) {
            return Ok(None);
        }
        match self.seal_to(&pin.user, &holder, now) {
            Some(to) => Ok(Some(to.key)),
            None => {
                let text = format!("{to} has not renewed its key; it will when it connects");
                Err(Reject::new(Code::KeysPending, text))
            }
        }
    }

    /// Returns whether a channel needs another key before anything is said in it: for its membership,
    /// its age, or how much was said (SECURITY 2.6). `newest` is the newest seq known.
    #[must_use]
    pub fn needs_rotation(&self, channel: &ChannelId, now: UnixMs, newest: u64) -> bool {
        let Some(tip) = self.tip(channel) else {
            return false;
        };
        self.must_rotate(channel)
            || tip.epoch().is_some_and(|epoch| {
                now >= epoch.at.plus(ROTATE_MS)
                    || newest >= epoch.seq.saturating_add(ROTATE_ENTRIES)
            })
    }

    /// Returns whether the membership asks for another key, whatever the age of this one.
    #[must_use]
    pub fn must_rotate(&self, channel: &ChannelId) -> bool {
        let tip = self.tip(channel);
        tip.is_some_and(|tip| tip.needs_epoch() || self.has_revoked(tip))
    }

    /// Returns whether a member has revoked a machine or owner key that the channel still goes by.
    fn has_revoked(&self, tip: &ChannelLog) -> bool {
        tip.members().iter().any(|(user, member)| {
            let n = member.ident.n;
            let newer = self.identity(user).filter(|log| log.head().n > n);
            newer.is_some_and(|log| {
                let gone = |key: &MachineKey| log.machine(key).is_none();
                log.machines_at(n).any(|machine| gone(&machine.key))
                    || log.owners_at(n).any(|key| !log.is_owner(key))
            })
        })
    }

    /// Takes announcements that a server showed: signed by their holders, for this server, and never
    /// older than what was seen. Returns those that are news, and whether one was older.
    pub fn take_announcements(
        &mut self,
        recs: &[Blob],
        asked: &[HolderKey],
        now: UnixMs,
    ) -> (Vec<(HolderKey, u32, Blob)>, bool) {
        self.keys
            .asked
            .extend(asked.iter().map(|holder| (*holder, now)));
        let (mut news, mut older) = (Vec::new(), false);
        let known: HashSet<&Blob> = asked
            .iter()
            .filter_map(|holder| self.keys.announced.get(holder).map(|(_, rec)| rec))
            .collect();
        // What was checked before need not be checked again.
        let fresh: Vec<&Blob> = recs.iter().filter(|rec| !known.contains(rec)).collect();
        for rec in fresh {
            let Ok(read) = Announcement::read(rec) else {
                continue;
            };
            let holder = read.holder_key();
            if read.server != self.server() || !asked.contains(&holder) {
                continue;
            }
            match self.keys.announce(read, rec.clone()) {
                true => news.push((holder, read.generation, rec.clone())),
                false => older = true,
            }
        }
        (news, older)
    }

    /// Takes a channel key if it is the one its epoch's record commits to, and every older one that
    /// it leads to. Returns the new ones.
    pub fn unlock(&mut self, channel: ChannelId, e: u32, bytes: &[u8; 32]) -> Vec<ChannelKey> {
        let place = Place { channel, e };
        let Some(tip) = self.tip(&channel) else {
            return Vec::new();
        };
        let commit = tip.epoch_at(e).map(|epoch| epoch.commit);
        let key = commit.and_then(|commit| ChannelKey::committed(place, bytes, &commit));
        let Some(key) = key else {
            return Vec::new();
        };
        let mut found = vec![key];
        while let Some(newest) = found.last()
            && let Some(older) = self.previous(tip, newest)
        {
            found.push(older);
        }
        found.retain(|key| self.keys.channel(key.place()).is_none());
        for key in &found {
            self.keys.add_channel(key.clone());
        }
        found
    }

    /// Opens the key of the epoch before, unless it is held or there is no way to it.
    fn previous(&self, tip: &ChannelLog, key: &ChannelKey) -> Option<ChannelKey> {
        let Place { channel, e } = key.place();
        let before = tip.epoch_at(e.checked_sub(1)?)?;
        let place = Place {
            channel,
            e: before.e,
        };
        if self.keys.channel(place).is_some() {
            return None;
        }
        let sealed = tip.epoch_at(e)?.prev_box.as_ref()?;
        key.open_previous(sealed, &before.commit)
    }

    /// Returns the key of a channel's newest epoch, if it is held.
    #[must_use]
    pub fn current_key(&self, channel: &ChannelId) -> Option<&ChannelKey> {
        let e = self.tip(channel)?.epoch()?.e;
        self.keys.channel(Place {
            channel: *channel,
            e,
        })
    }

    /// Returns whether this machine holds what it needs to read what is said in a channel now.
    #[must_use]
    pub fn can_read(&self, channel: &ChannelId) -> bool {
        let sealed = self
            .tip(channel)
            .is_some_and(|tip| tip.mode() == Mode::E2e && tip.epoch().is_some());
        !sealed || self.current_key(channel).is_some()
    }

    /// Returns an epoch whose key is not held below one that is; `None` where there is no hole.
    #[must_use]
    pub fn lacks(&self, channel: &ChannelId) -> Option<u32> {
        let tip = self.tip(channel)?;
        let channel = *channel;
        let held = |e: u32| self.keys.channel(Place { channel, e }).is_some();
        let mut epochs = tip.epochs().iter().rev().map(|epoch| epoch.e);
        epochs.find(|e| !held(*e))
    }

    /// Reads index key, name and topic of a channel anew. Only an admin's word counts: the newest epoch
    /// that an admin made, and a name given after it (DECISIONS 18). Returns them if they changed.
    pub fn refresh_bundle(&mut self, channel: &ChannelId) -> Option<Bundle> {
        let tip = self.tip(channel)?;
        let open = |e: u32| {
            let epoch = tip.epoch_at(e)?;
            let key = self.keys.channel(Place {
                channel: *channel,
                e,
            })?;
            key.open_bundle(&epoch.bundle_box)
        };
        let epochs = || tip.epochs().iter().rev();
        let said = epochs()
            .find(|epoch| epoch.by_admin)
            .and_then(|epoch| open(epoch.e));
        let known = self.keys.bundle(channel).cloned();
        let first = || epochs().find_map(|epoch| open(epoch.e));
        let mut bundle = said.or_else(|| known.clone()).or_else(first)?;
        if let Some((e, sealed)) = tip.name_box()
            && let Some(key) = self.keys.channel(Place {
                channel: *channel,
                e: *e,
            })
            && let Some(renamed) = key.open_name(sealed)
        {
            bundle.name = renamed.name.or(bundle.name);
            bundle.topic = renamed
                .topic
                .or(bundle.topic)
                .filter(|topic| !topic.is_empty());
        }
        let changed = known.as_ref() != Some(&bundle);
        self.keys.set_bundle(*channel, bundle.clone());
        changed.then_some(bundle)
    }

    /// Returns whether an epoch says of index key, name or topic what its signer may not change.
    #[must_use]
    pub fn oversteps(&self, channel: &ChannelId, e: u32) -> bool {
        let said = || {
            let epoch = self
                .tip(channel)?
                .epoch_at(e)
                .filter(|epoch| !epoch.by_admin)?;
            let place = Place {
                channel: *channel,
                e,
            };
            let said = self.keys.channel(place)?.open_bundle(&epoch.bundle_box);
            Some(said.as_ref() != self.keys.bundle(channel))
        };
        said().unwrap_or(false)
    }

    /// Returns whether an epoch's box for the key before holds another one: then who joins later cannot
    /// go back. Known only to who holds both keys.
    #[must_use]
    pub fn cuts_off(&self, channel: &ChannelId, e: u32) -> bool {
        let cut = || {
            let (tip, channel) = (self.tip(channel)?, *channel);
            let sealed = tip.epoch_at(e)?.prev_box.as_ref()?;
            let before = e.checked_sub(1)?;
            let held = |e| self.keys.channel(Place { channel, e });
            held(before)?;
            let commit = tip.epoch_at(before)?.commit;
            Some(held(e)?.open_previous(sealed, &commit).is_none())
        };
        cut().unwrap_or(false)
    }

    /// Returns the number of the first epoch whose messages may still be kept, `None` if all may.
    #[must_use]
    pub fn lapsed_below(&self, channel: &ChannelId, now: UnixMs, keep_ms: u64) -> Option<u32> {
        let tip = self.tip(channel)?;
        if tip.history() != History::SinceJoin || keep_ms == 0 {
            return None;
        }
        // The channel's own bound is signed; a server's word alone is not let under a floor.
        let own = u64::from(tip.limits().retention_days) * DAY_MS;
        let keep_ms = match own {
            0 => keep_ms.max(KEEP_DAYS_MIN * DAY_MS),
            own => own,
        };
        let mut epochs = tip.epochs().iter().rev();
        let over = epochs.find(|epoch| now >= epoch.at.plus(keep_ms))?;
        (over.e > 1).then_some(over.e)
    }

    /// Returns the hash of a channel's control record `n`, as it was verified.
    #[must_use]
    pub fn ctl_hash(&self, channel: &ChannelId, n: u64) -> Option<Hash> {
        self.ctl_at(channel, n).map(|(_, hash)| hash)
    }
}
