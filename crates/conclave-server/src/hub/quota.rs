//! What one user, key or channel may use up: entries a minute, bytes a day, joins, failed
//! authentications, connections, machines.
//!
//! Rates are kept in memory: a restart of the server forgives them. A key counts as failing only
//! after it signed the handshake, so nobody can shut out somebody else's key.

use super::settings::Settings;
use super::state::HubState;
use super::{Beside, ConnId};
use crate::rate::{DAY_MS, Failures, MINUTE_MS, Table};
use conclave_proto::channel_log::{CtlBody, VerifiedCtl};
use conclave_proto::entry::Envelope;
use conclave_proto::id::{ChannelId, SealedKey, UserId};
use conclave_proto::key::{HolderKey, MachineKey};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now};

/// When to try again where room has to be made first.
const FULL_RETRY_MS: u64 = 60_000;
/// When to try again for a connection.
const CONNECT_RETRY_MS: u64 = 10_000;

/// What was used up of late.
#[derive(Debug)]
pub(super) struct Quotas {
    entries: Table<(UserId, ChannelId)>,
    bytes: Table<UserId>,
    joins: Table<UserId>,
    failures: Failures<MachineKey>,
}

impl Quotas {
    pub(super) fn new(settings: &Settings) -> Self {
        let per_minute = |n: u32| u64::from(n);
        Self {
            entries: Table::new(per_minute(settings.appends_per_channel_minute), MINUTE_MS),
            bytes: Table::new(settings.bytes_per_day, DAY_MS),
            joins: Table::new(per_minute(settings.joins_per_minute), MINUTE_MS),
            failures: Failures::new(per_minute(settings.key_failures_per_minute)),
        }
    }

    /// Forgets what does not count any more.
    pub(super) fn evict(&mut self, now: Mono) {
        self.entries.evict(now);
        self.bytes.evict(now);
        self.joins.evict(now);
        self.failures.evict(now);
    }

    /// Returns how many rows there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.bytes.len() + self.joins.len() + self.failures.len()
    }
}

fn limited(text: &str) -> impl Fn(u64) -> Reject {
    move |ms| Reject::new(Code::RateLimited, text).retry_after(ms)
}

/// Returns what an envelope counts towards the day's bytes.
pub(super) fn envelope_bytes(env: &Envelope) -> u64 {
    let fixed = env.nonce.as_bytes().len() + env.sig.as_bytes().len();
    u64::try_from(env.header.len() + env.ct.len() + fixed).unwrap_or(u64::MAX)
}

/// Returns what wraps count towards the day's bytes.
pub(super) fn wraps_bytes(wraps: usize) -> u64 {
    u64::try_from(wraps * (HolderKey::LEN + SealedKey::LEN)).unwrap_or(u64::MAX)
}

impl HubState {
    /// Takes an entry from what a user may append: to this channel in a minute, in bytes in a day.
    pub(super) fn use_up(
        &mut self,
        now: Mono,
        user: UserId,
        channel: Option<ChannelId>,
        size: u64,
    ) -> Result<(), Reject> {
        let quotas = &mut self.quotas;
        let place = channel.map(|channel| (user, channel));
        if let Some(place) = &place {
            let fits = quotas.entries.check(now, place, 1);
            fits.map_err(limited("too many entries of this user in this channel"))?;
        }
        let fits = quotas.bytes.check(now, &user, size);
        fits.map_err(limited(
            "this user has sent as many bytes as it may in a day",
        ))?;
        if let Some(place) = place {
            quotas.entries.take(now, place, 1);
        }
        quotas.bytes.take(now, user, size);
        Ok(())
    }

    /// Appends a control record; a join counts as an attempt, unless it only came too late.
    pub(super) fn attempt_ctl(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        rec: &VerifiedCtl,
        beside: Beside,
    ) -> Result<(), Reject> {
        if !matches!(rec.body, CtlBody::Join { .. }) {
            return self.append_ctl(now, conn, id, rec, beside);
        }
        let user = self.session(conn)?.user;
        let fits = self.quotas.joins.check(now.mono, &user, 1);
        fits.map_err(limited("too many attempts to join"))?;
        let result = self.append_ctl(now, conn, id, rec, beside);
        if !matches!(&result, Err(reject) if reject.code == Code::CtlConflict) {
            self.quotas.joins.take(now.mono, user, 1);
        }
        result
    }

    /// Refuses a key that failed too often.
    pub(super) fn may_authenticate(&self, now: Mono, key: &MachineKey) -> Result<(), Reject> {
        let text = "too many authentications with this key failed";
        let fits = self.quotas.failures.check(now, key);
        fits.map_err(limited(text))
    }

    /// Remembers how an attempt of a key to come in ended.
    pub(super) fn authenticated<T>(&mut self, now: Mono, key: MachineKey, end: &Result<T, Reject>) {
        match end.as_ref().map_err(|reject| &reject.code) {
            Ok(_) => self.quotas.failures.succeeded(&key),
            Err(Code::Unauthorized | Code::UnknownKey | Code::InviteInvalid) => {
                self.quotas.failures.failed(now, key);
            }
            Err(_) => {}
        }
    }

    /// Refuses a connection of a user that has as many as it may, `conn` and `replaced` not counted.
    pub(super) fn has_seat(
        &self,
        user: &UserId,
        conn: ConnId,
        replaced: Option<ConnId>,
    ) -> Result<(), Reject> {
        let most = self.settings.connections_per_user_max;
        let theirs = self.conns.iter().filter(|(id, c)| {
            let session = c.session.as_ref();
            **id != conn && Some(**id) != replaced && session.is_some_and(|s| s.user == *user)
        });
        if most > 0 && theirs.count() >= most {
            let text = format!("a user has at most {most} connections");
            return Err(Reject::new(Code::LimitReached, text).retry_after(CONNECT_RETRY_MS));
        }
        Ok(())
    }

    /// Refuses a member whose machines a channel has no room for.
    pub(super) fn has_machine_room(
        &self,
        channel: &ChannelId,
        user: &UserId,
    ) -> Result<(), Reject> {
        self.fits_machines(channel, self.machines_of(user))
    }

    /// Refuses another machine of a user if one of its channels has no room for it.
    pub(super) fn may_add_machine(&self, user: &UserId) -> Result<(), Reject> {
        let account = self.dir.users.get(user);
        let mut channels = account.into_iter().flat_map(|u| &u.channels);
        channels.try_for_each(|channel| self.fits_machines(channel, 1))
    }

    fn fits_machines(&self, channel: &ChannelId, more: usize) -> Result<(), Reject> {
        let most = self.settings.machines_per_channel_max;
        if most == 0 {
            return Ok(());
        }
        let channel = self.dir.channel(channel);
        let members = channel.into_iter().flat_map(|c| c.log.members().keys());
        let there: usize = members.map(|user| self.machines_of(user)).sum();
        if there + more > most {
            let text = format!("the machines of a channel's members are at most {most}");
            return Err(Reject::new(Code::LimitReached, text).retry_after(FULL_RETRY_MS));
        }
        Ok(())
    }

    fn machines_of(&self, user: &UserId) -> usize {
        let account = self.dir.users.get(user);
        account.map_or(0, |u| u.log.machines().count())
    }
}
