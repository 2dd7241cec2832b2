//! Channels: finding, making, entering, following, and changing them by control records.

use super::{Client, random};
use crate::error::ClientError;
use crate::event::NoticeKind;
use crate::owner::Owner;
use conclave_e2ee::{Bundle, IndexKey};
use conclave_proto::channel_log::{
    ChannelLog, Ctl, CtlBody, CtlError, History, Mode, RemoveKind, Role, Visibility,
};
use conclave_proto::entry::{Entry, EntryBody};
use conclave_proto::frame::op::{CtlFetch, KickSession};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::name::{Name, SessionPath};

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
        let (tip, pin) = self
            .with(move |core| (core.book.tip(&channel).cloned(), core.book.held(&channel)))
            .await?;
        let Some(tip) = tip else {
            return Err(ClientError::NotFound {
                what: "channel",
                name: channel.to_string(),
            });
        };
        if pin.is_some_and(|pin| tip.head().n < pin.c) {
            return Err(ClientError::RolledBack);
        }
        Ok(tip)
    }

    /// Verifies control records of a channel and keeps them; returns whether any was new.
    pub(crate) async fn apply_ctl(
        &self,
        channel: ChannelId,
        entries: Vec<Entry>,
    ) -> Result<bool, ClientError> {
        let this = self.clone();
        self.uncut(async move { this.apply_ctl_now(channel, entries).await })
            .await
    }

    async fn apply_ctl_now(
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
}
