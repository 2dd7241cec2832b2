//! How fast a session tells what became of messages: whoever asks for receipts must not use up its rates,
//! nor have it answer each message that it never hears. Pure; when to send is the task's.

use conclave_proto::body::{Fate, Receipt};
use conclave_proto::name::SessionPath;
use conclave_proto::time::Mono;
use std::collections::BTreeMap;

/// An entry of receipts in so many milliseconds, over time…
pub const EACH_MS: u64 = 500;
/// …and so many at once.
pub const BURST: u64 = 8;
/// How often one sender hears that it is muted, in milliseconds.
pub const BLOCKED_MS: u64 = 60_000;

/// Receipts by whom they are for; each is one entry.
pub type Due = Vec<(SessionPath, Vec<Receipt>)>;

/// What is told now, and when there is more to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is told now.
    pub now: Due,
    /// After so many milliseconds the rest is looked at again; none: nothing is held back.
    pub rest_ms: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// From when on a whole burst is free again.
    full_at: Mono,
    /// Until when a sender does not hear again that it is muted.
    blocked: BTreeMap<SessionPath, Mono>,
}

impl Pace {
    /// Takes of what is due, in this order, as much as may be told now.
    pub fn plan(&mut self, now: Mono, due: Due) -> Plan {
        self.blocked.retain(|_, until| *until > now);
        let mut plan = Plan::default();
        for (to, receipts) in due {
            let muted = receipts.iter().all(|r| r.fate == Some(Fate::Blocked));
            let until = self.blocked.get(&to).filter(|_| muted);
            let rest = until.map_or_else(|| self.wait_ms(now), |until| until.0 - now.0);
            if rest > 0 {
                let sooner = plan.rest_ms.map_or(rest, |other| other.min(rest));
                plan.rest_ms = Some(sooner);
                continue;
            }
            self.full_at = self.full_at.max(now).plus(EACH_MS);
            if muted {
                self.blocked.insert(to.clone(), now.plus(BLOCKED_MS));
            }
            plan.now.push((to, receipts));
        }
        plan
    }

    /// Returns how long the next entry has to wait.
    fn wait_ms(&self, now: Mono) -> u64 {
        let spent = self.full_at.0.saturating_sub(now.0);
        (spent + EACH_MS).saturating_sub(BURST * EACH_MS)
    }
}
