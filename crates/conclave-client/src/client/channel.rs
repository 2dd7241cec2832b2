//! Channels: finding, making, entering, following, and changing them by control records.

use super::{Client, random};
use crate::error::ClientError;
use crate::event::NoticeKind;
use crate::owner::Owner;
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_e2ee::{Bundle, IndexKey};
use conclave_proto::channel_log::{
    Author, ChannelLog, Ctl, CtlBody, CtlError, History, Identities as _, Mode, RemoveKind, Role,
    Visibility,
};
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::op::{CtlAppend, CtlFetch, FindName, KickSession, Nothing, Wrap};
use conclave_proto::frame::reply::{Appended, ChannelInfo};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::record::Record;
use conclave_proto::reject::Code;

/// How often a control record is made again because somebody else was first.
const CONFLICTS_MAX: usize = 32;
/// The most pages of one chain that are read in one go.
const PAGES_MAX: usize = 10_000;

/// With which key a control record is signed.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// This machine's.
    Machine,
    /// The owner's.
    Owner(&'a Owner),
}

/// A channel to be made.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// Its name; sealed from the server if it is private and in mode `e2e`.
    pub name: Name,
    /// Who can enter.
    pub visibility: Visibility,
    /// Who can read; if nothing is said, private channels are `e2e` and others `signed`.
    pub mode: Option<Mode>,
    /// What who joins later can read.
    pub history: History,
    /// What it is about; sealed in mode `e2e`.
    pub topic: Option<String>,
}

impl NewChannel {
    /// Returns a channel with the usual settings: `e2e` if it is private, all of its history for who
    /// joins later, no topic.
    #[must_use]
    pub const fn new(name: Name, visibility: Visibility) -> Self {
        Self {
            name,
            visibility,
            mode: None,
            history: History::Full,
            topic: None,
        }
    }
}

/// A channel as its members know it: the verified control chain, with the name and topic that may be
/// sealed from the server.
#[derive(Clone, Debug)]
pub struct Channel {
    log: ChannelLog,
    name: Option<Name>,
    topic: Option<String>,
}

impl Channel {
    /// Returns the name, open or sealed; none while this machine lacks the channel's key.
    #[must_use]
    pub const fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Returns what it is about, open or sealed.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }
}

impl std::ops::Deref for Channel {
    type Target = ChannelLog;
    fn deref(&self) -> &ChannelLog {
        &self.log
    }
}

/// What a `meta` record changes.
#[derive(Default)]
struct Meta {
    name: Option<Name>,
    name_box: Option<Blob>,
    topic: Option<String>,
}

impl Client {
    /// Lists public channels, and those this user is a member of; none that was closed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        let mut channels = self.channels_ever().await?;
        channels.retain(|info| !info.closed);
        Ok(channels)
    }

    async fn channels_ever(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        let Reply::Channels(list) = self.request(Op::Channels(Nothing {})).await? else {
            return Err(ClientError::Answer);
        };
        let mut channels = list.channels;
        for info in &mut channels {
            self.name_sealed(info).await?;
        }
        Ok(channels)
    }

    /// Fills in what only members know of a channel: its name and topic, where they are sealed.
    async fn name_sealed(&self, info: &mut ChannelInfo) -> Result<(), ClientError> {
        let channel = info.channel;
        if info.role.is_none() || info.mode != Mode::E2e.as_str() {
            return Ok(());
        }
        let (head, look) = (info.ctl.n, move |core: &mut crate::core::Core| {
            core.book.keys.bundle(&channel).cloned()
        });
        // A newer record may say another name; one that is here already was perhaps never looked at.
        let (behind, changed) = self
            .with(move |core| {
                let tip = core.book.tip(&channel).map(ChannelLog::head);
                let behind = tip.is_none_or(|tip| tip.n < head);
                (behind, core.book.refresh_bundle(&channel))
            })
            .await?;
        if let Some(bundle) = changed {
            self.replica().keep_bundle(channel, &bundle).await?;
        }
        let mut known = self.with(look).await?;
        if (known.is_none() || behind) && !info.closed {
            // A channel that cannot be read now stays without a name; it is looked at again next time.
            if let Err(error) = self.fetch_keys(channel).await {
                tracing::info!(%error, %channel, "the channel's name cannot be read");
            }
            known = self.with(look).await?;
        }
        if let Some(bundle) = known {
            info.name = info.name.take().or(bundle.name);
            info.topic = bundle.topic;
        }
        Ok(())
    }

    /// Finds a channel by `name`, `#name` or `name~3f2a` (the first digits of its id).
    ///
    /// # Errors
    /// [`ClientError::Ambiguous`], [`ClientError::NotFound`].
    pub async fn resolve(&self, text: &str) -> Result<ChannelInfo, ClientError> {
        let text = text.trim_start_matches('#');
        let (name, id) = text
            .split_once('~')
            .map_or((text, None), |(n, id)| (n, Some(id)));
        let missing = || ClientError::NotFound {
            what: "channel",
            name: format!("#{text}"),
        };
        let parsed = Name::new(name).map_err(|_| missing())?;
        let fits = |info: &ChannelInfo| {
            info.name.as_ref() == Some(&parsed)
                && id.is_none_or(|id| digits(&info.channel).starts_with(id))
        };
        let seen = self.channels_ever().await?.into_iter().filter(fits);
        let (closed, mut found): (Vec<_>, Vec<_>) = seen.partition(|info| info.closed);
        if found.is_empty() {
            match self
                .request(Op::FindChannel(FindName {
                    name: parsed.clone(),
                }))
                .await
            {
                Ok(Reply::Channels(list)) => {
                    found = list.channels.into_iter().filter(fits).collect();
                }
                Ok(_) => return Err(ClientError::Answer),
                Err(ClientError::Reject(r)) if r.code == Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // The past of a closed channel stays readable, under a name that nothing open has.
        if found.is_empty() {
            found = closed;
        }
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(missing()),
            (Some(info), true) => Ok(info),
            (Some(info), false) => {
                let all = found.iter().chain([&info]);
                let candidates = all
                    .map(|i| format!("#{name}~{}", digits(&i.channel)))
                    .collect();
                Err(ClientError::Ambiguous {
                    name: format!("#{name}"),
                    candidates,
                })
            }
        }
    }

    /// Returns a channel, verified up to its newest control record.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Ctl`] if the server shows a chain that breaks the rules.
    pub async fn channel(&self, channel: ChannelId) -> Result<Channel, ClientError> {
        let log = self.tip(channel).await?;
        self.named(log).await
    }

    /// Adds to a channel what only members know of it, as far as this machine does.
    pub(crate) async fn named(&self, log: ChannelLog) -> Result<Channel, ClientError> {
        let id = *log.id();
        let bundle = self
            .with(move |core| core.book.keys.bundle(&id).cloned())
            .await?;
        let sealed = bundle.filter(|_| log.mode() == Mode::E2e);
        let (name, topic) = sealed.map_or((None, None), |bundle| (bundle.name, bundle.topic));
        Ok(Channel {
            name: log.name().cloned().or(name),
            topic: log.topic().map(str::to_owned).or(topic),
            log,
        })
    }

    /// Returns a channel's control chain, verified up to its newest record.
    pub(crate) async fn tip(&self, channel: ChannelId) -> Result<ChannelLog, ClientError> {
        for _ in 0..PAGES_MAX {
            let after = self
                .with(move |core| core.book.tip(&channel).map_or(0, ChannelLog::seq))
                .await?;
            let reply = self
                .request(Op::CtlFetch(CtlFetch { channel, after }))
                .await?;
            let Reply::Page(page) = reply else {
                return Err(ClientError::Answer);
            };
            if page.head < after {
                let text = "the server shows less of the channel than it did before".to_owned();
                self.notice(NoticeKind::ServerFork, Some(channel), text)
                    .await?;
                return Err(ClientError::RolledBack);
            }
            let progress = self.apply_ctl(channel, page.entries).await?;
            if page.next >= page.head || !progress {
                break;
            }
        }
        let tip = self
            .with(move |core| core.book.tip(&channel).cloned())
            .await?;
        tip.ok_or_else(|| ClientError::NotFound {
            what: "channel",
            name: channel.to_string(),
        })
    }

    /// Verifies control records of a channel and keeps them; returns whether any was new.
    pub(crate) async fn apply_ctl(
        &self,
        channel: ChannelId,
        entries: Vec<Entry>,
    ) -> Result<bool, ClientError> {
        let mut progress = false;
        for Entry { seq, at, body } in entries {
            let EntryBody::Ctl(rec) = body else { continue };
            let mut asked = None;
            loop {
                let copy = rec.clone();
                let applied = self
                    .with(move |core| core.book.advance_tip(channel, seq, at, &copy))
                    .await?;
                match applied {
                    // Known: what came now was not verified, and may be something else.
                    Ok(None) => break,
                    Ok(Some(_)) => {
                        progress = true;
                        self.replica()
                            .keep_ctl(LogId::Channel(channel), seq, at, rec)
                            .await?;
                        break;
                    }
                    // Somebody else in this process may learn the same at the same time.
                    Err(CtlError::NeedIdentity { user, n })
                        if asked != Some((user, n)) || self.knows(user, n).await? =>
                    {
                        asked = Some((user, n));
                        self.learn(user).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(progress)
    }

    /// Returns whether identity record `n` of a user is known.
    async fn knows(&self, user: UserId, n: u64) -> Result<bool, ClientError> {
        self.with(move |core| core.book.next_identity(&user) > n)
            .await
    }

    /// Follows a channel: from where this handle was, or from now on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn follow(&self, channel: ChannelId) -> Result<(), ClientError> {
        let log = LogId::Channel(channel);
        if self.with(move |core| core.follows(&log)).await? {
            return Ok(());
        }
        let tip = self.tip(channel).await?;
        let cursor = self.replica().cursor(self.info.handle.clone(), log).await?;
        let after = match cursor {
            Some(after) => after,
            None => {
                let head = self.head(log).await?.max(tip.seq());
                self.replica()
                    .start_feed(self.info.handle.clone(), log, head)
                    .await?;
                head
            }
        };
        let records = self.replica().ctl(log, after).await?;
        let newest = self.replica().newest(log).await?;
        self.with(move |core| {
            // Another call may have been first; its feed has gone on since.
            if core.follows(&log) {
                return Ok(());
            }
            if let Some(state) = core.book.rebuild(&records)? {
                core.book.stream_from(channel, state);
            }
            core.follow(log, after, newest.filter(|head| head.n <= after));
            Ok::<_, ClientError>(())
        })
        .await?
    }

    /// Follows this session's mailbox.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn follow_mailbox(&self) -> Result<(), ClientError> {
        let Some(ready) = self.live() else {
            return Ok(());
        };
        let Some(log) = ready.mailbox else {
            return Ok(());
        };
        let own = MailboxId::of(&self.info.account.user_id, &ready.path);
        if log != LogId::Mailbox(own) {
            return Err(ClientError::Answer);
        }
        self.replica()
            .start_feed(self.info.handle.clone(), log, 0)
            .await?;
        let after = self
            .replica()
            .cursor(self.info.handle.clone(), log)
            .await?
            .unwrap_or(0);
        self.with(move |core| core.follow(log, after, None)).await
    }

    /// Stops following a channel; the user stays a member.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn unfollow(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.with(move |core| core.unfollow(LogId::Channel(channel)))
            .await
    }

    /// Returns which channels are followed.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn followed(&self, channel: ChannelId) -> Result<bool, ClientError> {
        self.with(move |core| core.follows(&LogId::Channel(channel)))
            .await
    }

    /// Makes a channel; this user is its owner. In mode `e2e` it has its first key when this returns.
    ///
    /// # Errors
    /// [`ClientError`]; `name_taken` for a public or unlisted name, `mode` for a public channel in mode
    /// `e2e`.
    pub async fn create_channel(&self, new: NewChannel) -> Result<Channel, ClientError> {
        let channel = ChannelId::new(random()?);
        let private = new.visibility == Visibility::Private;
        let mode = new.mode.unwrap_or(match private {
            true => Mode::E2e,
            false => Mode::Signed,
        });
        let sealed = mode == Mode::E2e;
        if sealed {
            // Known here before the server hears of the channel: a crash must not lose the name.
            let bundle = Bundle {
                index_key: IndexKey::new(random()?),
                name: Some(new.name.clone()),
                topic: new.topic.clone(),
            };
            self.replica().keep_bundle(channel, &bundle).await?;
            self.with(move |core| core.book.keys.set_bundle(channel, bundle))
                .await?;
        }
        let body = CtlBody::Create {
            mode,
            visibility: new.visibility,
            history: new.history,
            name: (!(sealed && private)).then(|| new.name.clone()),
            topic: new.topic.clone().filter(|_| !sealed),
            limits: None,
        };
        let author = self.author().await?;
        let ctl = Ctl {
            channel,
            after: None,
            body,
            author,
            ts: crate::link::wall(),
        };
        let rec = ctl.sign_machine(&self.info.secret);
        self.append_ctl(channel, &rec, Vec::new(), None).await?;
        if sealed {
            self.rotate_if_needed(channel).await?;
        }
        self.channel(channel).await
    }

    /// Gives a channel another name or topic; sealed where the server does not know them.
    ///
    /// # Errors
    /// [`ClientError`]; `keys_pending` where this machine lacks the channel's key.
    pub async fn rename(
        &self,
        channel: ChannelId,
        name: Option<Name>,
        topic: Option<String>,
    ) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        let mut meta = Meta::default();
        if tip.mode() == Mode::E2e {
            if tip.needs_epoch() {
                self.rotate_if_needed(channel).await?;
            }
            self.fetch_keys(channel).await?;
            let (key, bundle) = self
                .with(move |core| {
                    let key = core.book.current_key(&channel).cloned();
                    key.zip(core.book.keys.bundle(&channel).cloned())
                })
                .await?
                .ok_or_else(super::keys::pending)?;
            let private = tip.visibility() == Visibility::Private;
            meta.name = name.clone().filter(|_| !private);
            let bundle = Bundle {
                name: name.filter(|_| private).or(bundle.name),
                topic: topic.or(bundle.topic),
                ..bundle
            };
            meta.name_box = Some(key.seal_name(&bundle, random()?));
        } else {
            meta.name = name;
            meta.topic = topic;
        }
        let body = CtlBody::Meta {
            visibility: None,
            name: meta.name,
            name_box: meta.name_box,
            topic: meta.topic,
        };
        self.control(channel, body, Signer::Machine).await?;
        if tip.mode() == Mode::E2e {
            self.fetch_keys(channel).await?;
        }
        Ok(())
    }

    /// Appends a control record, made again as often as somebody else is first.
    ///
    /// # Errors
    /// The channel's rules or the server's refusal, as [`ClientError`].
    pub async fn control(
        &self,
        channel: ChannelId,
        body: CtlBody,
        signer: Signer<'_>,
    ) -> Result<Appended, ClientError> {
        self.control_with(channel, signer, None, |_, _| Ok(body.clone()))
            .await
    }

    async fn control_with(
        &self,
        channel: ChannelId,
        signer: Signer<'_>,
        invite_box: Option<Blob>,
        make: impl Fn(&ChannelLog, &Author) -> Result<CtlBody, ClientError>,
    ) -> Result<Appended, ClientError> {
        let mut conflicts = 0;
        loop {
            let tip = self.tip(channel).await?;
            let author = self.author().await?;
            let body = make(&tip, &author)?;
            let rec = self.sign_ctl(&tip, body, signer).await?;
            match self
                .append_ctl(channel, &rec, Vec::new(), invite_box.clone())
                .await
            {
                Ok(done) => {
                    // Leaving ends the right to read on: nothing to catch up with then.
                    if let Err(error) = self.tip(channel).await {
                        tracing::debug!(%error, "channel not readable after the change");
                    }
                    return Ok(done);
                }
                Err(ClientError::Reject(reject))
                    if reject.code == Code::CtlConflict && conflicts < CONFLICTS_MAX =>
                {
                    conflicts += 1;
                    // Nothing newer to read means that the record itself changes nothing.
                    let head = tip.head();
                    if self.tip(channel).await?.head() == head {
                        return Err(reject.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Signs the record that follows the newest one known.
    pub(crate) async fn sign_ctl(
        &self,
        tip: &ChannelLog,
        body: CtlBody,
        signer: Signer<'_>,
    ) -> Result<Record, ClientError> {
        let ctl = Ctl {
            channel: *tip.id(),
            after: Some(tip.head()),
            body,
            author: self.author().await?,
            ts: crate::link::wall(),
        };
        Ok(match signer {
            Signer::Machine => ctl.sign_machine(&self.info.secret),
            Signer::Owner(owner) => ctl.sign_owner(owner.secret()),
        })
    }

    pub(crate) async fn append_ctl(
        &self,
        channel: ChannelId,
        rec: &Record,
        wraps: Vec<Wrap>,
        invite_box: Option<Blob>,
    ) -> Result<Appended, ClientError> {
        let rec = rec.bytes().clone();
        let op = CtlAppend {
            channel,
            rec,
            wraps,
            invite_box,
        };
        match self.request(Op::CtlAppend(op)).await? {
            Reply::Appended(done) => Ok(done),
            _ => Err(ClientError::Answer),
        }
    }

    /// Enters a channel that is not private.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join(&self, channel: ChannelId) -> Result<Channel, ClientError> {
        let me = self.info.account.user_id;
        if self.tip(channel).await?.role(&me).is_none() {
            self.control(channel, CtlBody::Join { ticket: None }, Signer::Machine)
                .await?;
        }
        self.settle(channel).await
    }

    /// Gets what a new member needs to read a channel, as far as it can be had now.
    async fn settle(&self, channel: ChannelId) -> Result<Channel, ClientError> {
        let tip = self.tip(channel).await?;
        if tip.mode() == Mode::E2e {
            if let Err(error) = self.fetch_keys(channel).await {
                tracing::info!(%error, %channel, "the channel's key is not here yet");
            }
            self.follow_up(channel).await;
        }
        self.channel(channel).await
    }

    /// Enters a channel by an invite, whose page of control records comes with it.
    pub(crate) async fn join_by(
        &self,
        channel: ChannelId,
        link: &Link,
        invite_box: Option<&Blob>,
    ) -> Result<Channel, ClientError> {
        let me = self.info.account.user_id;
        let known = self
            .with(move |core| core.book.tip(&channel).cloned())
            .await?;
        if known.as_ref().and_then(|tip| tip.role(&me)).is_some() {
            return self.settle(channel).await;
        }
        let opened = invite_box
            .and_then(|sealed| invite_box::open(sealed, &link.secret, &channel, &link.id()));
        let opened = opened.ok_or(ClientError::InviteBox)?;
        if known.is_none_or(|tip| *tip.genesis() != opened.genesis) {
            return Err(ClientError::InviteBox);
        }
        let invite = link.secret.signing_key();
        self.control_with(channel, Signer::Machine, None, |tip, author| {
            let ticket = Ctl::ticket(&channel, &tip.head(), author, &invite);
            Ok(CtlBody::Join {
                ticket: Some(ticket),
            })
        })
        .await?;
        self.take_box(channel, opened).await?;
        self.settle(channel).await
    }

    /// Keeps what a link told of a channel: its key, if it is the one that was committed to.
    async fn take_box(&self, channel: ChannelId, opened: InviteBox) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        if let Some(index_key) = opened.index_key {
            let (name, topic) = (opened.name, opened.topic);
            let bundle = Bundle {
                index_key,
                name,
                topic,
            };
            self.replica().keep_bundle(channel, &bundle).await?;
            self.with(move |core| core.book.keys.set_bundle(channel, bundle))
                .await?;
        }
        let key = opened.key.and_then(|boxed| {
            let commit = tip.epoch_at(boxed.e)?.commit;
            boxed.committed(channel, &commit)
        });
        self.take_keys(channel, key.into_iter().collect()).await
    }

    /// Leaves a channel for good (until somebody lets the user in again).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave(&self, channel: ChannelId) -> Result<(), ClientError> {
        let body = CtlBody::Remove {
            user: self.info.account.user_id,
            kind: RemoveKind::Leave,
        };
        self.control(channel, body, Signer::Machine).await?;
        self.with(move |core| {
            core.unfollow(LogId::Channel(channel));
            core.book.forget(&channel);
        })
        .await
    }

    /// Makes an invite into a channel; the link is the caller's to keep secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(
        &self,
        channel: ChannelId,
        role: Role,
        max_uses: u32,
        life_ms: u64,
        signer: Signer<'_>,
    ) -> Result<Link, ClientError> {
        let secret = LinkSecret::new(random()?);
        let key = secret.signing_key().invite_key();
        let expires = crate::link::wall().plus(life_ms);
        let sealed = self.invite_box(channel, &secret).await?;
        self.control_with(channel, signer, Some(sealed), |_, _| {
            Ok(CtlBody::Invite {
                key,
                role,
                max_uses,
                expires,
            })
        })
        .await?;
        let server_key = self.server_key().await?;
        Ok(Link::invite(self.info.origin.clone(), secret, &server_key))
    }

    /// Seals what a joiner needs to the link's secret.
    async fn invite_box(
        &self,
        channel: ChannelId,
        secret: &LinkSecret,
    ) -> Result<Blob, ClientError> {
        let tip = self.tip(channel).await?;
        let mut content = InviteBox {
            genesis: *tip.genesis(),
            name: tip.name().cloned(),
            topic: tip.topic().map(str::to_owned),
            index_key: None,
            key: None,
        };
        if tip.mode() == Mode::E2e {
            match tip.needs_epoch() {
                true => drop(self.rotate_if_needed(channel).await?),
                false => self.fetch_keys(channel).await?,
            }
            let (key, bundle) = self
                .with(move |core| {
                    let key = core.book.current_key(&channel).cloned();
                    key.zip(core.book.keys.bundle(&channel).cloned())
                })
                .await?
                .ok_or_else(super::keys::pending)?;
            content.name = content.name.or(bundle.name);
            content.topic = bundle.topic;
            content.index_key = Some(bundle.index_key);
            let full = tip.history() == History::Full;
            content.key = full.then(|| BoxedKey::new(&key));
        }
        let invite = secret.signing_key().invite_key().invite_id();
        Ok(invite_box::seal(
            &content,
            secret,
            &channel,
            &invite,
            random()?,
        ))
    }

    /// Ends an invite early.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_invite(
        &self,
        channel: ChannelId,
        invite: InviteId,
    ) -> Result<(), ClientError> {
        self.control(channel, CtlBody::InviteRevoke { invite }, Signer::Machine)
            .await
            .map(drop)
    }

    /// Adds a user by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_member(
        &self,
        channel: ChannelId,
        user: &Name,
        role: Role,
        signer: Signer<'_>,
    ) -> Result<(), ClientError> {
        let user = self.find_user(user).await?;
        let ident = self.identity_head(user).await?;
        self.control(channel, CtlBody::Add { user, ident, role }, signer)
            .await?;
        self.follow_up(channel).await;
        Ok(())
    }

    /// Removes a user by name: `kick` or `ban`. A ban ends every invite as well.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_member(
        &self,
        channel: ChannelId,
        user: &Name,
        kind: RemoveKind,
    ) -> Result<(), ClientError> {
        let user = self.find_user(user).await?;
        self.control(channel, CtlBody::Remove { user, kind }, Signer::Machine)
            .await?;
        if kind == RemoveKind::Ban {
            let tip = self.tip(channel).await?;
            let now = crate::link::wall();
            let live = tip
                .invites()
                .iter()
                .filter(|(_, invite)| invite.is_live(now));
            for (id, _) in live {
                self.revoke_invite(channel, *id).await?;
            }
        }
        self.follow_up(channel).await;
        Ok(())
    }

    /// Ends one session's subscription.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn kick_session(
        &self,
        channel: ChannelId,
        path: SessionPath,
    ) -> Result<(), ClientError> {
        self.request(Op::KickSession(KickSession { channel, path }))
            .await
            .map(drop)
    }

    /// Returns who this session is, for a record, with the newest identity head the server knows.
    pub(crate) async fn author(&self) -> Result<Author, ClientError> {
        let user = self.info.account.user_id;
        let ready = self.ready(std::time::Duration::from_secs(10)).await?;
        let known = self
            .with(move |core| core.book.identity(&user).map(|log| log.head()))
            .await?;
        if known.is_none_or(|head| head.n < ready.ident.n) {
            self.learn(user).await?;
        }
        let ident = self.identity_head(user).await?;
        Ok(Author {
            user,
            path: ready.path.clone(),
            ident,
        })
    }

    async fn server_key(&self) -> Result<conclave_proto::key::ServerKey, ClientError> {
        self.with(|core| core.server_key()).await
    }
}

/// The first digits of a channel's id, as people write them.
fn digits(channel: &ChannelId) -> String {
    channel
        .as_bytes()
        .iter()
        .take(2)
        .map(|b| format!("{b:02x}"))
        .collect()
}
