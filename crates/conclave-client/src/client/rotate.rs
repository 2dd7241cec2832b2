//! New keys for a channel: drawn here, committed to in a signed record, sealed to every member's machine
//! (SECURITY 2.4, 2.6).

use super::keys::pending;
use super::{Client, Signer, random};
use crate::error::ClientError;
use conclave_e2ee::{Bundle, ChannelKey, IndexKey, Place};
use conclave_proto::channel_log::{ChannelLog, CtlBody, History, Identities as _, Mode};
use conclave_proto::frame::Op;
use conclave_proto::frame::op::{Wrap, WrapPut};
use conclave_proto::id::ChannelId;
use conclave_proto::key::HolderKey;
use conclave_proto::limit::WRAPS_MAX;
use conclave_proto::reject::{Code, Reject};
use zeroize::Zeroizing;

/// How often an epoch is made again because somebody else changed the channel first.
const CONFLICTS_MAX: usize = 32;

/// An epoch that is not appended yet.
struct Draft {
    body: CtlBody,
    key: ChannelKey,
    wraps: Vec<Wrap>,
}

/// Why a channel gets a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Somebody asked for it.
    Asked,
    /// The membership or the key's age asks for it; whoever is first does.
    Needed,
    /// The older key is lost: new messages go on, older ones stay closed to who joins later.
    Lost,
}

impl Client {
    /// Gives a channel a new key; returns the epoch's number.
    ///
    /// # Errors
    /// [`ClientError`]; `keys_pending` where this machine lacks the key before.
    pub async fn rotate(&self, channel: ChannelId) -> Result<u32, ClientError> {
        self.new_epoch(channel, Why::Asked).await
    }

    /// Gives a channel a new key although the one before is lost: who joins later cannot read what was
    /// said before. Channel admins only.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_without_past(&self, channel: ChannelId) -> Result<u32, ClientError> {
        self.new_epoch(channel, Why::Lost).await
    }

    /// Gives a channel a new key if its membership or age asks for it.
    pub(crate) async fn rotate_if_needed(&self, channel: ChannelId) -> Result<u32, ClientError> {
        self.new_epoch(channel, Why::Needed).await
    }

    /// Does what has to follow a change of the membership, where it can be done; the next sender does it
    /// otherwise.
    pub(crate) async fn follow_up(&self, channel: ChannelId) {
        let done = async {
            let tip = self.tip(channel).await?;
            if tip.mode() != Mode::E2e {
                return Ok(());
            }
            if tip.needs_epoch() {
                self.rotate_if_needed(channel).await?;
            } else {
                self.repair(channel).await?;
            }
            Ok::<_, ClientError>(())
        };
        if let Err(error) = done.await {
            tracing::info!(%error, %channel, "the channel's key is left to the next sender");
        }
    }

    async fn new_epoch(&self, channel: ChannelId, why: Why) -> Result<u32, ClientError> {
        for _ in 0..CONFLICTS_MAX {
            let tip = self.tip(channel).await?;
            let needed = move |core: &mut crate::core::Core| core.needs_rotation(&channel);
            if let (Why::Needed, Some(epoch)) = (why, tip.epoch())
                && !self.with(needed).await?
            {
                return Ok(epoch.e);
            }
            if self.advance_members(&tip).await? {
                continue;
            }
            let draft = match self.draft_epoch(&tip, why).await {
                Err(error) if self.tip(channel).await?.head() != tip.head() => {
                    tracing::debug!(%error, "the channel went on meanwhile");
                    continue;
                }
                draft => draft?,
            };
            let e = draft.key.place().e;
            match self.append_epoch(&tip, draft).await {
                Ok(()) => return Ok(e),
                Err(ClientError::Reject(r))
                    if matches!(r.code, Code::CtlConflict | Code::StaleEpoch) => {}
                Err(error) => return Err(error),
            }
        }
        let text = "others change the channel all the time";
        Err(Reject::new(Code::CtlConflict, text).into())
    }

    /// Tells the channel of newer identity heads that are known of its members, so that no key is sealed
    /// to a machine that was revoked. Returns whether there was one.
    async fn advance_members(&self, tip: &ChannelLog) -> Result<bool, ClientError> {
        let me = self.info.account.user_id;
        self.learn(me).await?;
        let log = tip.clone();
        let newer = self
            .with(move |core| {
                log.members().iter().find_map(|(user, member)| {
                    let head = core.book.identity(user)?.head();
                    (head.n > member.ident.n).then_some((*user, head))
                })
            })
            .await?;
        let Some((user, head)) = newer else {
            return Ok(false);
        };
        let body = CtlBody::Ident { user, head };
        match self.control(*tip.id(), body, Signer::Machine).await {
            Ok(_) => Ok(true),
            Err(ClientError::Reject(r)) if r.code == Code::CtlConflict => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn draft_epoch(&self, tip: &ChannelLog, why: Why) -> Result<Draft, ClientError> {
        let channel = *tip.id();
        if tip.mode() != Mode::E2e {
            let text = "a channel in mode signed has no key";
            return Err(Reject::new(Code::Mode, text).into());
        }
        let e = tip.epoch().map_or(0, |epoch| epoch.e).saturating_add(1);
        let drawn: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
        let key = ChannelKey::new(Place { channel, e }, &drawn);
        let past = tip.epoch().is_some() && tip.history() == History::Full && why != Why::Lost;
        let before = Place {
            channel,
            e: e.saturating_sub(1),
        };
        let held = move |core: &mut crate::core::Core| core.book.keys.channel(before).cloned();
        if past && self.with(held).await?.is_none() {
            self.fetch_keys(channel).await?;
        }
        let log = tip.clone();
        let (previous, bundle, holders, root) = self
            .with(move |core| {
                let previous = core.book.keys.channel(before).cloned();
                // What an admin said since counts, also if nobody looked at it yet.
                core.book.refresh_bundle(&channel);
                let bundle = core.book.keys.bundle(&channel).cloned();
                let holders = log.holders(&core.book);
                (previous, bundle, holders, log.members_root(&core.book))
            })
            .await?;
        let first = tip.epoch().is_none() || why == Why::Lost;
        let bundle = match bundle {
            Some(bundle) => bundle,
            // Who never could read the channel must not say what it is called: an admin's word is law.
            None if !first && previous.is_none() => return Err(pending()),
            None => Bundle {
                index_key: IndexKey::new(random()?),
                name: None,
                topic: None,
            },
        };
        let prev_box = match (past, previous) {
            (true, Some(previous)) => Some(key.seal_previous(&previous, random()?)),
            (true, None) => return Err(pending()),
            (false, _) => None,
        };
        let body = CtlBody::Epoch {
            e,
            covers_c: tip.head().n,
            members_root: root.ok_or(ClientError::Answer)?,
            commit: key.commit(),
            prev_box,
            bundle_box: key.seal_bundle(&bundle, random()?),
        };
        let mut wraps = self.wraps(&key, &holders).await?;
        // This machine's own wrap goes with the record: whatever happens next, the key is not lost.
        let mine = HolderKey::from(self.info.secret.machine_key());
        wraps.sort_by_key(|wrap| wrap.to != mine);
        Ok(Draft { body, key, wraps })
    }

    async fn append_epoch(&self, tip: &ChannelLog, draft: Draft) -> Result<(), ClientError> {
        let channel = *tip.id();
        let mut parts = draft.wraps.chunks(WRAPS_MAX);
        let first = parts.next().unwrap_or_default().to_vec();
        let rec = self.sign_ctl(tip, draft.body, Signer::Machine).await?;
        self.append_ctl(channel, &rec, first, None).await?;
        self.tip(channel).await?;
        let e = draft.key.place().e;
        self.take_keys(channel, vec![draft.key]).await?;
        for part in parts {
            let wraps = part.to_vec();
            let op = WrapPut { channel, e, wraps };
            self.request(Op::WrapPut(op)).await?;
        }
        self.fetch_keys(channel).await
    }
}
