//! First contacts: the host's human decides once about each user, one dialog at a time, a few in ten minutes.

use super::{Done, Session};
use crate::guard::{Bucket, Budget};
use crate::mcp::{Dialog, Push, Verdict};
use crate::senders::{Sender, Standing};
use crate::state::{HomeId, Message, Place, sender::THINK_MS};
use conclave_proto::id::UserId;
use conclave_proto::name::Name;
use conclave_proto::time::Now;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;

/// So many dialogs in ten minutes: who makes accounts does not fill the screen.
const DIALOGS: Budget = Budget::new(3, 10 * 60 * 1000);

/// The most first contacts that wait for their dialog.
const WAITING_MAX: usize = 8;

const ACCEPT: &str = "accept";
const MUTE: &str = "mute";
const BLOCK: &str = "block";
const CHOICES: &[&str] = &[ACCEPT, MUTE, BLOCK];

/// Somebody who wrote for the first time.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    home: HomeId,
    user: UserId,
    name: Name,
    text: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Contacts {
    waiting: VecDeque<Contact>,
    asking: bool,
    dialogs: Bucket,
}

impl Contacts {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            waiting: VecDeque::new(),
            asking: false,
            dialogs: Bucket::full(DIALOGS, now.mono),
        }
    }
}

impl Session {
    /// Has the human asked about who wrote for the first time, if there is room.
    pub(super) fn new_sender(&mut self, message: &Message) {
        let now = self.now();
        let (home, user) = (message.home, message.sender.user);
        let contacts = &mut self.contacts;
        let free = contacts.waiting.len() < WAITING_MAX && contacts.dialogs.wait_ms(now.mono) == 0;
        if !free {
            return self.state.sender_settled(now, home, user);
        }
        contacts.dialogs.take(1);
        contacts.waiting.push_back(Contact {
            home,
            user,
            name: message.from.user.clone(),
            text: question(message),
        });
        self.next_contact();
    }

    fn next_contact(&mut self) {
        while !self.contacts.asking
            && let Some(contact) = self.contacts.waiting.pop_front()
        {
            let (now, user) = (self.now(), contact.user);
            let fabric = self.homes.get(contact.home.0);
            let (verdict, told) = oneshot::channel();
            let dialog = Dialog {
                message: contact.text.clone(),
                choices: CHOICES,
                within: Duration::from_millis(THINK_MS),
                verdict,
            };
            // Another session of this machine may have asked.
            let asks = fabric.is_some_and(|fabric| fabric.ask_once(&user));
            if !asks || self.pushes.try_send(Push::Ask(Box::new(dialog))).is_err() {
                self.state.sender_settled(now, contact.home, user);
                continue;
            }
            self.contacts.asking = true;
            self.tasks.spawn(async move {
                let limit = Duration::from_millis(THINK_MS);
                let verdict = tokio::time::timeout(limit, told).await;
                let verdict = verdict.ok().and_then(Result::ok);
                Done::Contact(Box::new((contact, verdict.unwrap_or(Verdict::Unanswered))))
            });
        }
    }

    /// Keeps what the human decided, and lets the messages go on.
    pub(super) fn contact_decided(&mut self, contact: &Contact, verdict: Verdict) {
        let now = self.now();
        self.contacts.asking = false;
        let standing = match verdict {
            Verdict::Chose(ACCEPT) => Some(Standing::Accepted),
            Verdict::Chose(MUTE) => Some(Standing::Muted),
            Verdict::Chose(BLOCK) => Some(Standing::Blocked),
            Verdict::Chose(_) | Verdict::Refused | Verdict::Unanswered | Verdict::Unable => None,
        };
        let Contact {
            home, user, name, ..
        } = contact;
        let hint = format!("`conclave senders accept|mute|block {name}`");
        match (standing, self.homes.get(home.0)) {
            (Some(standing), Some(fabric)) => {
                let (name, at) = (name.clone(), now.wall);
                let sender = Sender { name, standing, at };
                if let Err(error) = fabric.keep_sender(*user, sender) {
                    tracing::warn!(%error, "what was decided of a sender was not kept");
                }
                let text = format!(
                    "{} wrote for the first time: {}",
                    contact.name,
                    standing.as_str()
                );
                self.noted(Some(*home), "sender", &text, Some(&hint));
            }
            (None, Some(fabric)) if verdict == Verdict::Unable => fabric.not_asked(user),
            _ => {
                let text = format!("{name} wrote for the first time; nobody decided");
                self.noted(Some(*home), "sender", &text, Some(&hint));
            }
        }
        self.refresh(*home);
        self.state.sender_settled(now, *home, *user);
        self.next_contact();
    }
}

/// What the dialog says: our own words, and names of the narrow alphabet.
fn question(message: &Message) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let place = match &message.place {
        Place::Whisper => "to this session alone".to_owned(),
        Place::Channel(_, name) => format!(
            "in #{}",
            name.chars().filter(plain).take(64).collect::<String>()
        ),
    };
    format!(
        "{} writes to your agents for the first time ({}, {place}).\naccept: its messages come as your levels say. mute: they wake nobody. block: they are not shown.",
        message.from.user, message.from
    )
}
