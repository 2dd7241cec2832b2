//! Claims: taking, renewing and releasing a lease on a resource that members agree on.
//!
//! The server's compare-and-set decides who wins a slot, and the log's order who wins where two slots
//! mean the same. Time is the server's throughout; the rules are in [`crate::claim`].

use super::Client;
use super::state::Put;
use crate::claim::rule::{
    CLAIM_PREFIX, ClaimValue, NOTE_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN, in_the_way,
};
use crate::claim::{Resource, Standing};
use crate::error::ClientError;
use crate::item::{Claim, ClaimError};
use conclave_proto::id::{ChannelId, LogId, SlotId};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use futures_util::future::join_all;

/// How often a claim is tried again that finds another version of its slot.
const TRIES_MAX: u32 = 8;

/// What is known of a resource at one moment.
struct Look {
    /// The key of its slot.
    key: String,
    /// The claims that stand in its channel.
    claims: Vec<Standing>,
    /// The version of its slot.
    version: u64,
    /// The server's time.
    now: UnixMs,
}

impl Look {
    /// Returns the claim that stands on exactly this resource.
    fn on(&self, resource: &Resource) -> Option<&Standing> {
        let text = resource.to_string();
        self.claims.iter().find(|claim| claim.resource == text)
    }
}

/// Whose claims may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This session's.
    Own,
    /// Those of any session of this user.
    Users,
}

impl Client {
    /// Takes a resource for this session, or renews what it holds.
    ///
    /// # Errors
    /// [`ClaimError::Held`] with the claim that is in the way.
    pub async fn claim(
        &self,
        channel: ChannelId,
        resource: &str,
        ttl_ms: u64,
        note: Option<&str>,
    ) -> Result<Claim, ClaimError> {
        let resource = Resource::parse(resource)?;
        let note = note.map(str::to_owned);
        check(ttl_ms, note.as_deref())?;
        let me = self.own_path().await?;
        for _ in 0..TRIES_MAX {
            let look = self.look(channel, &resource).await?;
            if let Some(claim) = in_the_way(&look.claims, &resource, &me, u64::MAX, look.now) {
                return Err(self.held(channel, claim.clone()).await);
            }
            let own = look.on(&resource);
            let own = own.filter(|claim| claim.holder == me && !claim.is_lapsed(look.now));
            let value = ClaimValue {
                ttl_ms,
                note: note.clone(),
                token: own.map(|claim| claim.token),
            };
            if let Some(seq) = self.bid(channel, &look, Some(&value)).await?
                && let Some(claim) = self.settle_claim(channel, &resource, &me, seq).await?
            {
                return Ok(claim);
            }
        }
        Err(busy().into())
    }

    /// Renews what this session holds; the token stays.
    ///
    /// # Errors
    /// [`ClaimError::NotHeld`] if it lapsed, [`ClaimError::Held`] if another session has it.
    pub async fn renew(
        &self,
        channel: ChannelId,
        resource: &str,
        ttl_ms: u64,
        note: Option<&str>,
    ) -> Result<Claim, ClaimError> {
        let resource = Resource::parse(resource)?;
        check(ttl_ms, note)?;
        let me = self.own_path().await?;
        for _ in 0..TRIES_MAX {
            let look = self.look(channel, &resource).await?;
            let own = match look.on(&resource) {
                Some(claim) if claim.is_lapsed(look.now) => return Err(ClaimError::NotHeld),
                Some(claim) if claim.holder != me => {
                    return Err(self.held(channel, claim.clone()).await);
                }
                Some(claim) => claim,
                None => return Err(ClaimError::NotHeld),
            };
            let value = ClaimValue {
                ttl_ms,
                note: note.map(str::to_owned).or_else(|| own.note.clone()),
                token: Some(own.token),
            };
            if let Some(seq) = self.bid(channel, &look, Some(&value)).await? {
                match self.settle_claim(channel, &resource, &me, seq).await? {
                    Some(claim) if claim.token == own.token => return Ok(claim),
                    // It lapsed on the way: what was guarded by the old token may have changed.
                    Some(_) => {
                        let look = self.look(channel, &resource).await?;
                        self.bid(channel, &look, None).await?;
                        return Err(ClaimError::NotHeld);
                    }
                    None => return Err(ClaimError::NotHeld),
                }
            }
        }
        Err(busy().into())
    }

    /// Gives a resource back.
    ///
    /// # Errors
    /// [`ClaimError::NotHeld`], [`ClaimError::Held`] if it is another session's.
    pub async fn release(
        &self,
        channel: ChannelId,
        resource: &str,
        whose: Whose,
    ) -> Result<(), ClaimError> {
        let resource = Resource::parse(resource)?;
        let (me, user) = (self.own_path().await?, self.account().user_id);
        for _ in 0..TRIES_MAX {
            let look = self.look(channel, &resource).await?;
            let claim = look.on(&resource);
            let claim = claim.filter(|claim| claim.holder == me || !claim.is_lapsed(look.now));
            let Some(claim) = claim else {
                return Err(ClaimError::NotHeld);
            };
            let may = claim.holder == me || (whose == Whose::Users && claim.user == user);
            if !may {
                return Err(self.held(channel, claim.clone()).await);
            }
            if self.bid(channel, &look, None).await?.is_some() {
                return Ok(());
            }
        }
        Err(busy().into())
    }

    /// Returns the claims that hold in a channel now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn claims(&self, channel: ChannelId) -> Result<Vec<Claim>, ClientError> {
        self.refresh_items(channel).await?;
        let (claims, now, _) = self.standing(channel, None).await?;
        self.with(move |core| {
            let claim = |claim: Standing| {
                let holder = claim.holder.parse().ok()?;
                let facts = core.facts(Some(&channel), &claim.user, &holder);
                Claim::of(channel, claim, facts, now)
            };
            let holding = claims.into_iter().filter(|claim| !claim.is_lapsed(now));
            holding.filter_map(claim).collect()
        })
        .await
    }

    /// Gives back all that this session holds, as far as this machine knows; what fails lapses.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release_all(&self) -> Result<(), ClientError> {
        let me = self.own_path().await?;
        let own = self.replica().all_claims().await?;
        let own = own.into_iter().filter(|(_, claim)| claim.holder == me);
        let me = &me;
        let releases = own.filter_map(|(log, claim)| match log {
            LogId::Channel(channel) => Some(async move {
                let resource = Resource::parse(&claim.resource).ok()?;
                let look = self.look_here(channel, &resource).await.ok()?;
                look.on(&resource).filter(|claim| claim.holder == *me)?;
                self.bid(channel, &look, None).await.ok()
            }),
            LogId::Mailbox(_) => None,
        });
        join_all(releases).await;
        Ok(())
    }

    /// Reads everything up to the log's newest entry, and looks at one resource.
    async fn look(&self, channel: ChannelId, resource: &Resource) -> Result<Look, ClientError> {
        self.sync_items(channel).await?;
        self.look_here(channel, resource).await
    }

    /// Looks at one resource as far as this machine knows.
    async fn look_here(
        &self,
        channel: ChannelId,
        resource: &Resource,
    ) -> Result<Look, ClientError> {
        let key = format!("{CLAIM_PREFIX}{resource}");
        let slot = self.slot_of(channel, &key).await?;
        let (claims, now, version) = self.standing(channel, Some(slot)).await?;
        Ok(Look {
            key,
            claims,
            version,
            now,
        })
    }

    /// Returns the claims of members, lapsed or not; the server's time; and the version of a slot.
    async fn standing(
        &self,
        channel: ChannelId,
        slot: Option<SlotId>,
    ) -> Result<(Vec<Standing>, UnixMs, u64), ClientError> {
        let log = LogId::Channel(channel);
        let (mut claims, version) = self.replica().claims(log, slot).await?;
        self.with(move |core| {
            if let Some(tip) = core.book.tip(&channel) {
                claims.retain(|claim| tip.role(&claim.user).is_some());
            }
            (claims, core.server_now(), version)
        })
        .await
    }

    /// Writes a claim's slot if it is still as it was looked at; `None` if it is not.
    async fn bid(
        &self,
        channel: ChannelId,
        look: &Look,
        value: Option<&ClaimValue>,
    ) -> Result<Option<u64>, ClientError> {
        let value = value.map(serde_json::to_string).transpose();
        let put = Put {
            channel,
            key: look.key.clone(),
            value: value.map_err(|_| ClientError::Answer)?,
            expected: Some(look.version),
        };
        match self.put(&put).await {
            Ok(written) => Ok(written.version),
            Err(error) if error.code() == Code::VersionMismatch => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to one's own entry, and steps back if another session won an overlapping claim before.
    /// `None` if the entry is not the one that stands.
    async fn settle_claim(
        &self,
        channel: ChannelId,
        resource: &Resource,
        me: &str,
        seq: u64,
    ) -> Result<Option<Claim>, ClaimError> {
        self.sync_items_to(channel, seq).await?;
        let look = self.look_here(channel, resource).await?;
        let own = look.on(resource).filter(|claim| claim.holder == me);
        let Some(own) = own else {
            return Ok(None);
        };
        if let Some(first) = in_the_way(&look.claims, resource, me, own.token, own.at) {
            self.bid(channel, &look, None).await?;
            return Err(self.held(channel, first.clone()).await);
        }
        let (own, now) = (own.clone(), look.now);
        let claim = self
            .with(move |core| {
                let holder = own.holder.parse().ok()?;
                let facts = core.facts(Some(&channel), &own.user, &holder);
                Claim::of(channel, own, facts, now)
            })
            .await?;
        match claim {
            Some(claim) => Ok(Some(claim)),
            None => Err(ClientError::Answer.into()),
        }
    }

    async fn held(&self, channel: ChannelId, claim: Standing) -> ClaimError {
        let found = self
            .with(move |core| {
                let holder = claim.holder.parse().ok()?;
                let facts = core.facts(Some(&channel), &claim.user, &holder);
                Claim::of(channel, claim, facts, core.server_now())
            })
            .await;
        match found {
            Ok(Some(claim)) => ClaimError::Held(Box::new(claim)),
            Ok(None) => ClientError::Answer.into(),
            Err(error) => error.into(),
        }
    }
}

fn check(ttl_ms: u64, note: Option<&str>) -> Result<(), ClientError> {
    if !(TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) {
        let text = "a claim holds for a second at least and a day at most";
        return Err(Reject::new(Code::Malformed, text).into());
    }
    if note.is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        let text = format!("a note has at most {NOTE_BYTES_MAX} bytes");
        return Err(Reject::new(Code::TooLarge, text).into());
    }
    Ok(())
}

/// The refusal of a claim on what changes hands all the time.
fn busy() -> ClientError {
    Reject::new(Code::Claimed, "others take and release it all the time").into()
}
