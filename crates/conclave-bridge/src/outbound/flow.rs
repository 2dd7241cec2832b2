//! Where the words in an agent's context came from, and whether it may say something elsewhere (DECISIONS 32).
//!
//! A channel is public, unlisted or private; a whisper of another user is private with that user. What a session
//! read of a private channel goes to one that anybody can enter only if a human allows it; to other private
//! places it goes, and the agent is told. So it is with whispers, wherever it goes: else anybody could silence a
//! session by whispering to it. Of a confidential channel nothing goes anywhere unasked. What goes back to where
//! it came from, to somebody who spoke there, or to the user's own sessions is free.

use crate::state::{HomeId, Message, Place};
use conclave_proto::channel_log::Visibility;
use conclave_proto::id::ChannelId;
use conclave_proto::name::{Name, SessionPath};
use std::collections::{BTreeMap, BTreeSet};

/// The most places remembered; beyond, something private was read somewhere.
const PLACES_MAX: usize = 256;
/// The most people remembered of a place; who is not, counts as somebody else.
const SPEAKERS_MAX: usize = 256;
/// The most places named in an answer.
const NAMED_MAX: usize = 4;

/// Where something was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Channel(HomeId, ChannelId),
    Whisper(HomeId, Name),
    /// Somewhere that is not remembered.
    Elsewhere,
}

/// Where something is to be said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dest {
    /// In a channel.
    Channel(ChannelId),
    /// In a channel that is yet to be made or entered.
    New(Visibility),
    /// To a session of another user.
    User(Name),
    /// To one of the user's own sessions.
    Own,
}

/// What is known of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who can enter.
    pub visibility: Visibility,
    /// Whether what is said there is to stay there.
    pub confidential: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Nothing: say it.
    Free,
    /// Say it, and tell the agent what it has read: our own words.
    Note(String),
    /// A human has to allow it: our own words.
    Ask(String),
}

/// What a session read since its context was last cleared.
#[derive(Debug, Default)]
pub struct Read {
    /// Where, under which name, and who spoke there.
    places: BTreeMap<Source, (String, BTreeSet<Name>)>,
    /// What the agent was told of.
    told: BTreeSet<(Source, Dest)>,
}

impl Read {
    /// Notes that something said in a place is in the agent's context.
    pub fn note(&mut self, home: HomeId, place: &Place, from: &SessionPath, own: bool) {
        let (source, name) = match place {
            Place::Channel(id, name) => (Source::Channel(home, *id), format!("#{name}")),
            Place::Whisper if own => return,
            Place::Whisper => {
                let name = format!("whispers of {}", from.user);
                (Source::Whisper(home, from.user.clone()), name)
            }
        };
        let known = self.places.contains_key(&source);
        let (source, name) = match known || self.places.len() < PLACES_MAX {
            true => (source, name),
            false => (Source::Elsewhere, "other places".to_owned()),
        };
        let (_, speakers) = self
            .places
            .entry(source)
            .or_insert_with(|| (name, BTreeSet::new()));
        if speakers.len() < SPEAKERS_MAX {
            speakers.insert(from.user.clone());
        }
    }

    /// Notes a message.
    pub fn note_message(&mut self, message: &Message) {
        let own = message.sender.own;
        self.note(message.home, &message.place, &message.from, own);
    }

    /// Forgets everything: the agent's context was cleared.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Decides whether something may be said on a server in these places; `known` tells what is known of a
    /// channel that the user is a member of.
    pub fn passage(
        &mut self,
        home: HomeId,
        to: &[(Dest, String)],
        known: impl Fn(HomeId, &ChannelId) -> Option<Known>,
    ) -> Passage {
        let (mut asks, mut notes) = (Vec::new(), Vec::new());
        for (source, (name, speakers)) in &self.places {
            for (dest, place) in to {
                match weigh(source, speakers, home, dest, &known) {
                    Weight::Free => {}
                    Weight::Note => notes.push((source.clone(), dest.clone(), name.as_str())),
                    Weight::Ask(why) => asks.push((name.as_str(), why, place.as_str())),
                }
            }
        }
        if let Some((_, why, place)) = asks.first() {
            let names = listed(asks.iter().map(|(name, ..)| *name));
            return Passage::Ask(format!(
                "this session has read {names}, {why}; {place} is another circle"
            ));
        }
        let fresh = |(source, dest, _): &&(Source, Dest, &str)| {
            !self.told.contains(&(source.clone(), dest.clone()))
        };
        let fresh: Vec<&str> = notes.iter().filter(fresh).map(|(.., name)| *name).collect();
        if fresh.is_empty() {
            return Passage::Free;
        }
        let text = format!("this session has read {}", listed(fresh.into_iter()));
        let told = notes.into_iter().map(|(source, dest, _)| (source, dest));
        let room = 4 * PLACES_MAX - self.told.len().min(4 * PLACES_MAX);
        let told: Vec<_> = told.take(room).collect();
        self.told.extend(told);
        Passage::Note(text)
    }
}

enum Weight {
    Free,
    Note,
    Ask(&'static str),
}

fn weigh(
    source: &Source,
    speakers: &BTreeSet<Name>,
    home: HomeId,
    dest: &Dest,
    known: &impl Fn(HomeId, &ChannelId) -> Option<Known>,
) -> Weight {
    let same = match (source, dest) {
        (_, Dest::Own) => true,
        (Source::Channel(at, a), Dest::Channel(b)) => *at == home && a == b,
        (Source::Channel(at, _) | Source::Whisper(at, _), Dest::User(name)) => {
            *at == home && speakers.contains(name)
        }
        (_, Dest::New(_)) | (Source::Whisper(..), Dest::Channel(_)) | (Source::Elsewhere, _) => {
            false
        }
    };
    if same {
        return Weight::Free;
    }
    // A channel that is not known any more counts as private.
    let private = Known {
        visibility: Visibility::Private,
        confidential: false,
    };
    let from = match source {
        Source::Channel(at, id) => known(*at, id).unwrap_or(private),
        Source::Whisper(..) | Source::Elsewhere => private,
    };
    let open = match dest {
        Dest::Channel(id) => known(home, id).unwrap_or(private).visibility,
        Dest::New(visibility) => *visibility,
        Dest::User(_) | Dest::Own => Visibility::Private,
    };
    match (from.visibility, open) {
        _ if from.confidential => Weight::Ask("which is confidential"),
        _ if matches!(source, Source::Whisper(..)) => Weight::Note,
        (Visibility::Public, _) => Weight::Free,
        (Visibility::Private, Visibility::Public | Visibility::Unlisted) => {
            Weight::Ask("which is private")
        }
        (Visibility::Private, Visibility::Private) => Weight::Note,
        (Visibility::Unlisted, Visibility::Public) => Weight::Note,
        (Visibility::Unlisted, Visibility::Unlisted | Visibility::Private) => Weight::Free,
    }
}

/// Names places, each once, the first few.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    let first: Vec<&str> = names.into_iter().take(NAMED_MAX).collect();
    match more {
        0 => first.join(", "),
        n => format!("{} and {n} more", first.join(", ")),
    }
}
