//! Claims: taking, renewing and releasing a lease on a resource that members agree on.
//!
//! The server's compare-and-set decides who wins a slot, and the log's order who wins where two slots
//! mean the same. Time is the server's throughout; the rules are in [`crate::claim`].

use super::Client;
use super::state::Put;
use crate::claim::rule::{
    CLAIM_PREFIX, CLAIMS_MAX, ClaimValue, NOTE_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN, count, in_the_way,
};
use crate::claim::{Resource, Standing};
use crate::error::ClientError;
use crate::item::{Claim, ClaimError};
use crate::replica::items::Claims;
use crate::replica::unreadable::Shut;
use conclave_proto::channel_log::History;
use conclave_proto::id::{ChannelId, LogId, SlotId, UserId};
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
    /// The version of its slot, as far as it was read.
    version: u64,
    /// What is newer there and cannot be read.
    shut: Option<Shut>,
    /// The server's time.
    now: UnixMs,
}

/// What became of a write to a claim's slot.
enum Bidden {
    /// It stands there.
    At(u64),
    /// The slot has another version: this one, if the server says so.
    Moved(Option<u64>),
}

impl Look {
    /// Returns the claim that stands on exactly this resource.
    fn on(&self, resource: &Resource) -> Option<&Standing> {
        let text = resource.to_string();
        self.claims.iter().find(|claim| claim.resource == text)
    }

    /// Returns whether no further claim of a user would count.
    fn is_full(&self, user: &UserId) -> bool {
        let own = self.claims.iter().filter(|claim| claim.user == *user);
        own.filter(|claim| !claim.is_lapsed(self.now)).count() >= CLAIMS_MAX
    }

    /// Returns the newest version that is known of its slot, read or not, or that the server named.
    fn newest(&self, named: Option<u64>) -> u64 {
        let shut = self.shut.as_ref().map_or(0, |shut| shut.seq);
        self.version.max(shut).max(named.unwrap_or(0))
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
        let (me, user) = (self.own_path().await?, self.account().user_id);
        let (mut named, mut fresh) = (None, false);
        for _ in 0..TRIES_MAX {
            let look = self.look(channel, &resource).await?;
            if let Some(claim) = in_the_way(&look.claims, &resource, &me, u64::MAX, look.now) {
                if fresh {
                    return Err(self.held(channel, claim.clone()).await);
                }
                // Its holder may be no member any more.
                self.tip(channel).await?;
                fresh = true;
                continue;
            }
            let own = look.on(&resource);
            let own = own.filter(|claim| claim.holder == me && !claim.is_lapsed(look.now));
            if own.is_none() && look.is_full(&user) {
                let text = format!("one user holds {CLAIMS_MAX} claims at most");
                return Err(ClientError::from(Reject::new(Code::TooLarge, text)).into());
            }
            let value = ClaimValue {
                ttl_ms,
                note: note.clone(),
                token: own.map(|claim| claim.token),
            };
            let version = match own {
                Some(_) => look.newest(named),
                None => self.open_version(channel, &look, &me, named).await?,
            };
            match self.bid(channel, &look, version, Some(&value)).await? {
                Bidden::Moved(version) => named = version,
                Bidden::At(seq) => {
                    let settled = self.settle_claim(channel, &resource, &me, seq).await?;
                    if let Some(claim) = settled {
                        return Ok(claim);
                    }
                }
            }
        }
        Err(busy().into())
    }

    /// Returns the version of a slot that nobody is known to hold.
    ///
    /// # Errors
    /// [`ClaimError::Unreadable`] while somebody may hold it by what this machine cannot read.
    async fn open_version(
        &self,
        channel: ChannelId,
        look: &Look,
        me: &str,
        named: Option<u64>,
    ) -> Result<u64, ClaimError> {
        let version = look.newest(named);
        let shut = look.shut.as_ref().filter(|shut| shut.seq == version);
        let (by, at) = match shut {
            _ if version == look.version => return Ok(version),
            Some(shut) if shut.sender == me => return Ok(version),
            Some(shut) => (shut.sender.parse().ok(), shut.at),
            // Named by the server and not shown: only what was before this user came.
            None => (None, self.hidden_until(channel, version).await?),
        };
        let until = at.plus(TTL_MS_MAX);
        if look.now < until {
            let left_ms = until.since(look.now);
            return Err(ClaimError::Unreadable { by, left_ms });
        }
        Ok(version)
    }

    /// Returns when this user became a member, if what stands at a place is hidden from it for that.
    async fn hidden_until(&self, channel: ChannelId, seq: u64) -> Result<UnixMs, ClientError> {
        let me = self.info.account.user_id;
        self.with(move |core| {
            let tip = core.book.tip(&channel)?;
            let member = tip.member(&me)?;
            let hidden = tip.history() == History::SinceJoin && seq < member.since;
            hidden.then_some(member.at)
        })
        .await?
        .ok_or_else(busy)
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
        let mut named = None;
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
            let seq = match self
                .bid(channel, &look, look.newest(named), Some(&value))
                .await?
            {
                Bidden::At(seq) => seq,
                Bidden::Moved(version) => {
                    named = version;
                    continue;
                }
            };
            return match self.settle_claim(channel, &resource, &me, seq).await? {
                Some(claim) if claim.token == own.token => Ok(claim),
                // It lapsed on the way: what was guarded by the old token may have changed.
                Some(_) => {
                    let look = self.look(channel, &resource).await?;
                    self.bid(channel, &look, look.newest(None), None).await?;
                    Err(ClaimError::NotHeld)
                }
                None => Err(ClaimError::NotHeld),
            };
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
        let mut named = None;
        for _ in 0..TRIES_MAX {
            let look = self.look(channel, &resource).await?;
            let claim = look.on(&resource);
            // A lapsed one is not given back over what somebody else has written there since.
            let last = look.shut.is_none() && named.is_none();
            let claim =
                claim.filter(|claim| (claim.holder == me && last) || !claim.is_lapsed(look.now));
            let Some(claim) = claim else {
                return Err(ClaimError::NotHeld);
            };
            let may = claim.holder == me || (whose == Whose::Users && claim.user == user);
            if !may {
                return Err(self.held(channel, claim.clone()).await);
            }
            match self.bid(channel, &look, look.newest(named), None).await? {
                Bidden::At(_) => return Ok(()),
                Bidden::Moved(version) => named = version,
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
        let (Claims { standing, .. }, now) = self.standing(channel, None).await?;
        self.with(move |core| {
            let claim = |claim: Standing| {
                let holder = claim.holder.parse().ok()?;
                let facts = core.facts(Some(&channel), &claim.user, &holder);
                Claim::of(channel, claim, facts, now)
            };
            let holding = standing.into_iter();
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
                self.bid(channel, &look, look.newest(None), None).await.ok()
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
        let (found, now) = self.standing(channel, Some(slot)).await?;
        let Claims {
            standing,
            version,
            shut,
        } = found;
        Ok(Look {
            key,
            claims: standing,
            version,
            shut,
            now,
        })
    }

    /// Returns the claims of members, lapsed or not; what is known of a slot; and the server's time.
    async fn standing(
        &self,
        channel: ChannelId,
        slot: Option<SlotId>,
    ) -> Result<(Claims, UnixMs), ClientError> {
        let log = LogId::Channel(channel);
        let now = self.with(|core| core.server_now()).await?;
        let mut found = self.replica().claims(log, slot, now).await?;
        self.with(move |core| {
            if let Some(tip) = core.book.tip(&channel) {
                // Who left and came back begins anew.
                let since = |claim: &Standing| tip.member(&claim.user).map(|m| m.since);
                let holds = |claim: &Standing| since(claim).is_some_and(|at| at < claim.version);
                found.standing.retain(holds);
            }
            count(&mut found.standing, now);
            (found, now)
        })
        .await
    }

    /// Writes a claim's slot if it has a version.
    async fn bid(
        &self,
        channel: ChannelId,
        look: &Look,
        version: u64,
        value: Option<&ClaimValue>,
    ) -> Result<Bidden, ClientError> {
        let value = value.map(serde_json::to_string).transpose();
        let put = Put {
            channel,
            key: look.key.clone(),
            value: value.map_err(|_| ClientError::Answer)?,
            expected: Some(version),
        };
        match self.put(&put).await {
            Ok(written) => Ok(written.version.map_or(Bidden::Moved(None), Bidden::At)),
            Err(ClientError::Reject(reject)) if reject.code == Code::VersionMismatch => {
                Ok(Bidden::Moved(reject.expected))
            }
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
            self.bid(channel, &look, look.newest(None), None).await?;
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
