//! Requests of a link: each is answered once, whatever happens to the sockets under it.

use crate::frame::Op;
use crate::id::LogId;
use crate::limit::REQUESTS_IN_FLIGHT_MAX;
use crate::reject::{Code, Reject};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most requests without an answer, sent or not; more are refused at once.
pub const REQUESTS_OPEN_MAX: usize = 1024;

/// What a request id on this socket stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flight {
    /// A command from above; its answer is dropped if it was given up meanwhile.
    Command {
        token: u64,
    },
    Follow {
        log: LogId,
    },
    Unfollow,
}

#[derive(Debug)]
struct Command {
    op: Op,
    deadline: Option<Mono>,
    /// Whether it may have reached the server.
    tried: bool,
}

#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<u64, Command>,
    /// Not sent on this socket yet, in order; may name commands that were given up.
    waiting: VecDeque<u64>,
    flying: BTreeMap<u64, Flight>,
    deadlines: BTreeSet<(Mono, u64)>,
    next_id: u64,
    window: usize,
}

impl Requests {
    pub(super) const fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            flying: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_id: 1,
            window: 0,
        }
    }

    /// Takes a command in, or says why not.
    pub(super) fn add(&mut self, token: u64, op: Op, deadline: Option<Mono>) -> Result<(), Reject> {
        if self.open.len() >= REQUESTS_OPEN_MAX {
            return Err(Reject::new(Code::LimitReached, "too many requests wait"));
        }
        if self.open.contains_key(&token) {
            return Err(Reject::new(Code::IdReuse, "the token is in use"));
        }
        self.deadlines.extend(deadline.map(|at| (at, token)));
        let tried = false;
        self.open.insert(
            token,
            Command {
                op,
                deadline,
                tried,
            },
        );
        self.waiting.push_back(token);
        Ok(())
    }

    /// A socket is up that answers so many requests at a time.
    pub(super) fn up(&mut self, window: u32) {
        self.window = usize::try_from(window)
            .unwrap_or(REQUESTS_IN_FLIGHT_MAX)
            .clamp(1, REQUESTS_IN_FLIGHT_MAX);
    }

    /// The socket is gone: what was in flight waits again, in the order in which it was sent.
    pub(super) fn down(&mut self) {
        self.window = 0;
        let flying = std::mem::take(&mut self.flying);
        for flight in flying.into_values().rev() {
            if let Flight::Command { token } = flight {
                self.waiting.push_front(token);
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.flying.len() < self.window
    }

    /// Gives `flight` an id on this socket.
    pub(super) fn launch(&mut self, flight: Flight) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.flying.insert(id, flight);
        id
    }

    /// Returns the next command to send.
    pub(super) fn next(&mut self) -> Option<(u64, Op)> {
        loop {
            let token = self.waiting.pop_front()?;
            if let Some(command) = self.open.get_mut(&token) {
                command.tried = true;
                let op = command.op.clone();
                return Some((token, op));
            }
        }
    }

    /// Takes an id off this socket's flights.
    pub(super) fn land(&mut self, id: u64) -> Option<Flight> {
        self.flying.remove(&id)
    }

    /// Takes a command out to answer it; false if it was answered before.
    pub(super) fn finish(&mut self, token: u64) -> bool {
        let Some(command) = self.open.remove(&token) else {
            return false;
        };
        if let Some(at) = command.deadline {
            self.deadlines.remove(&(at, token));
        }
        true
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes a command out whose deadline has come.
    pub(super) fn expired(&mut self, now: Mono) -> Option<(u64, Reject)> {
        let (at, token) = self.deadlines.first().copied()?;
        if at > now {
            return None;
        }
        self.deadlines.pop_first();
        let tried = self
            .open
            .remove(&token)
            .is_some_and(|command| command.tried);
        let reject = if tried {
            Reject::new(Code::Timeout, "no answer in time")
        } else {
            offline()
        };
        Some((token, reject))
    }

    /// Takes every command out; none of them will be answered by the server.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        self.waiting.clear();
        self.flying.clear();
        self.deadlines.clear();
        std::mem::take(&mut self.open).into_keys().collect()
    }
}

pub(super) fn offline() -> Reject {
    Reject::new(Code::Offline, "there is no connection to the server")
}
