//! The permission desk of a session: which calls wait for a verdict, and which verdict counts (SECURITY B.5).
//!
//! Pure. A verdict is accepted once, in time, for exactly the call it was asked for, from who the signed policy
//! names; everything else is refused with the reason, and the call waits on. The host's own dialog is open all
//! the while: whoever answers first decides.

pub mod rule;

use crate::guard::{Bucket, Budget};
use crate::policy::Policy;
use crate::state::HomeId;
use conclave_proto::desk::{
    DESCRIPTION_CHARS_MAX, PREVIEW_CHARS_MAX, Request, TOOL_BYTES_MAX, Verdict, digest,
};
use conclave_proto::id::{RequestId, UserId};
use conclave_proto::key::OwnerKey;
use conclave_proto::name::SessionPath;
use conclave_proto::time::{Mono, UnixMs};
use std::collections::VecDeque;

/// How many calls may wait at once.
pub const OPEN_MAX: usize = 8;
/// How long one waits, in milliseconds: below what the host gives its hooks, and what a request may live.
pub const OPEN_MS: u64 = 110_000;
/// How many may be asked about in a minute.
const ASKED: Budget = Budget::new(10, 60_000);
/// How many that are over are remembered, to say why a verdict comes in vain.
const OVER_MAX: usize = 64;

/// A tool call that somebody should decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The tool, as the host names it.
    pub tool: String,
    /// Its arguments, or as much of them as the host shows.
    pub arguments: String,
    /// All of them are here.
    pub whole: bool,
    /// What the host says it does.
    pub description: String,
}

impl Call {
    /// Makes the request that is sent for it.
    #[must_use]
    pub fn request(&self, nonce: RequestId, session: &SessionPath, expires: UnixMs) -> Request {
        let preview: String = self.arguments.chars().take(PREVIEW_CHARS_MAX).collect();
        let description: String = self
            .description
            .chars()
            .take(DESCRIPTION_CHARS_MAX)
            .collect();
        let digest = digest(&self.tool, &self.arguments, &description, session, &nonce);
        Request {
            truncated: !self.whole || preview.len() < self.arguments.len(),
            nonce,
            session: session.clone(),
            tool: self.tool.clone(),
            description,
            preview,
            digest,
            expires,
        }
    }
}

/// A verdict that came, and what is known of who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// By which server.
    pub home: HomeId,
    /// The session that sent it.
    pub from: SessionPath,
    /// Whose that is.
    pub user: UserId,
    /// When the server stored it.
    pub at: UnixMs,
    /// The owner keys of that user that count now.
    pub owners: Vec<OwnerKey>,
    /// What it says.
    pub verdict: Verdict,
}

/// What holds when a verdict comes.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The policy of the server it came by, as signed.
    pub policy: &'a Policy,
    /// Whether this session has told the giver something lately: who was told what to say does not decide.
    pub prompted: bool,
}

/// Why nobody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// [`OPEN_MAX`].
    #[error("8 calls wait for a verdict already")]
    TooMany,
    /// Ten in a minute.
    #[error("10 calls were asked about in this minute already")]
    TooOften,
    /// The tool has no name a request could carry.
    #[error("the tool's name is empty or too long")]
    Unnamed,
}

/// Why a verdict does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such request is open here.
    #[error("there is no such request")]
    Unknown,
    /// The request was decided.
    #[error("the request was decided already")]
    Replayed,
    /// Too late, by the server's clock or this machine's.
    #[error("it came too late")]
    Late,
    /// By the session that asks.
    #[error("it is by the session that asks")]
    Own,
    /// It is about another call.
    #[error("it is about another call")]
    OtherCall,
    /// The user is no approver.
    #[error("its user is not among your approvers")]
    NotApprover,
    /// The signature does not fit.
    #[error("its signature does not fit")]
    BadSignature,
    /// Another key than an owner key that counts.
    #[error("it is not signed by an owner key of its user")]
    NotOwnerKey,
    /// By a machine alone, and no agent that your policy lets approve.
    #[error(
        "it is not signed by an owner key, and your policy lets no agent there approve this tool"
    )]
    Unsigned,
    /// By an agent that this session told something.
    #[error("this session has told that agent something")]
    Prompted,
    /// Allowed, but not everything was shown.
    #[error(
        "its giver was not shown the whole call; such a call is allowed at its own terminal only"
    )]
    NotWhole,
}

/// A verdict that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Which call.
    pub key: u64,
    /// The tool.
    pub tool: String,
    /// Whether it may be made.
    pub allow: bool,
    /// Who decided.
    pub by: SessionPath,
}

#[derive(Debug)]
struct Open {
    key: u64,
    call: Call,
    /// One for each server that it is asked by.
    asked: Vec<(HomeId, Request)>,
    until: Mono,
}

/// The machine.
#[derive(Debug)]
pub struct Desk {
    next: u64,
    open: Vec<Open>,
    over: VecDeque<(RequestId, Refused)>,
    rate: Bucket,
}

impl Desk {
    /// Starts with nothing open.
    #[must_use]
    pub const fn new(now: Mono) -> Self {
        Self {
            next: 0,
            open: Vec::new(),
            over: VecDeque::new(),
            rate: Bucket::full(ASKED, now),
        }
    }

    /// Takes a call; returns its key.
    ///
    /// # Errors
    /// [`NotAsked`]; then the host's own dialog is all there is.
    pub fn open(&mut self, now: Mono, call: Call) -> Result<u64, NotAsked> {
        if call.tool.is_empty() || call.tool.len() > TOOL_BYTES_MAX {
            return Err(NotAsked::Unnamed);
        }
        if self.open.len() >= OPEN_MAX {
            return Err(NotAsked::TooMany);
        }
        if self.rate.wait_ms(now) > 0 {
            return Err(NotAsked::TooOften);
        }
        self.rate.take(1);
        self.next += 1;
        self.open.push(Open {
            key: self.next,
            call,
            asked: Vec::new(),
            until: now.plus(OPEN_MS),
        });
        Ok(self.next)
    }

    /// Returns the open call that this one is, told by the host in its other way: all arguments are known of
    /// both, and they are the same.
    #[must_use]
    pub fn same(&self, call: &Call) -> Option<u64> {
        let same = |open: &&Open| {
            let known = &open.call;
            known.whole
                && call.whole
                && known.tool == call.tool
                && known.arguments == call.arguments
        };
        self.open.iter().find(same).map(|open| open.key)
    }

    /// Returns the open call that this one shows the start of: whoever answers that one answers this one.
    #[must_use]
    pub fn covers(&self, call: &Call) -> Option<u64> {
        let start = call.arguments.trim_end_matches(['…', '.']);
        let covers = |open: &&Open| {
            let known = &open.call;
            known.whole && known.tool == call.tool && known.arguments.starts_with(start)
        };
        self.open.iter().find(covers).map(|open| open.key)
    }

    /// Returns an open call.
    #[must_use]
    pub fn call(&self, key: u64) -> Option<&Call> {
        self.find(key).map(|open| &open.call)
    }

    /// Notes that a call is asked about by a server.
    pub fn asked(&mut self, key: u64, home: HomeId, request: Request) {
        if let Some(open) = self.open.iter_mut().find(|open| open.key == key) {
            open.asked.push((home, request));
        }
    }

    /// Judges a verdict. The call is over if it counts, and waits on if not.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn decide(
        &mut self,
        now: Mono,
        rules: &Rules<'_>,
        given: &Given,
    ) -> Result<Decided, Refused> {
        let nonce = given.verdict.nonce;
        let meant =
            |(home, request): &&(HomeId, Request)| *home == given.home && request.nonce == nonce;
        let found = self.open.iter().find_map(|open| {
            let (_, request) = open.asked.iter().find(meant)?;
            Some((open, request))
        });
        let Some((open, request)) = found else {
            let over = self.over.iter().find(|(id, _)| *id == nonce);
            return Err(over.map_or(Refused::Unknown, |(_, why)| *why));
        };
        judge(now, open.until, rules, request, given)?;
        let decided = Decided {
            key: open.key,
            tool: open.call.tool.clone(),
            allow: given.verdict.allow,
            by: given.from.clone(),
        };
        self.end(decided.key, Refused::Replayed);
        Ok(decided)
    }

    /// Ends a call that nobody decided here.
    pub fn close(&mut self, key: u64) {
        self.end(key, Refused::Late);
    }

    fn find(&self, key: u64) -> Option<&Open> {
        self.open.iter().find(|open| open.key == key)
    }

    fn end(&mut self, key: u64, why: Refused) {
        let Some(at) = self.open.iter().position(|open| open.key == key) else {
            return;
        };
        for (_, request) in self.open.swap_remove(at).asked {
            if self.over.len() >= OVER_MAX {
                self.over.pop_front();
            }
            self.over.push_back((request.nonce, why));
        }
    }
}

/// The checks, in order: who it is by, when, about what, and with which right.
fn judge(
    now: Mono,
    until: Mono,
    rules: &Rules<'_>,
    request: &Request,
    given: &Given,
) -> Result<(), Refused> {
    let verdict = &given.verdict;
    if given.from == request.session {
        return Err(Refused::Own);
    }
    let in_time = now < until
        && given.at < request.expires
        && given.at < verdict.expires
        && verdict.expires <= request.expires;
    if !in_time {
        return Err(Refused::Late);
    }
    if verdict.digest != request.digest {
        return Err(Refused::OtherCall);
    }
    if verdict.owner.is_some() {
        by_human(rules, given)?;
    } else {
        by_agent(rules, request, given)?;
    }
    if verdict.allow && request.truncated && !rule::is_low_risk(&request.tool) {
        return Err(Refused::NotWhole);
    }
    Ok(())
}

fn by_human(rules: &Rules<'_>, given: &Given) -> Result<(), Refused> {
    if !rules.policy.approvers.contains(&given.user) {
        return Err(Refused::NotApprover);
    }
    let key = given.verdict.verify().map_err(|_| Refused::BadSignature)?;
    match given.owners.contains(key) {
        true => Ok(()),
        false => Err(Refused::NotOwnerKey),
    }
}

fn by_agent(rules: &Rules<'_>, request: &Request, given: &Given) -> Result<(), Refused> {
    let tools = rules.policy.agents.get(&given.from);
    if !tools.is_some_and(|tools| rule::agent_may(tools, &request.tool)) {
        return Err(Refused::Unsigned);
    }
    match rules.prompted {
        true => Err(Refused::Prompted),
        false => Ok(()),
    }
}
