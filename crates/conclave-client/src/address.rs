//! Who a message is for, as somebody writes it, and whom that means: pure, for bridges and the command
//! line alike.
//!
//! Names are looked up among those who are there; what fits nobody, or several, is an error with
//! candidates. Nothing is guessed.

use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::{BadGroup, Group};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The most targets of one message.
pub const TARGETS_MAX: usize = 16;
/// The most mentions of one message.
pub const MENTIONS_MAX: usize = 16;
/// The most candidates of one error.
const CANDIDATES_MAX: usize = 8;

/// One target, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// `name`: a user with one session, else a handle.
    Name(Name),
    /// `user/machine/session`.
    Path(SessionPath),
    /// `@group`: who carries it in the home channel.
    Group(Group),
    /// `*` or `@all`: everybody in the home channel.
    All,
    /// `#channel`: everybody in it.
    Channel(String),
    /// `#channel@group`: who carries it there.
    ChannelGroup(String, Group),
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTo {
    /// None of the forms.
    #[error(
        "a target is a name, user/machine/session, @group, #channel, #channel@group, * or @all; not {0:?}"
    )]
    Form(String),
    /// The group is none.
    #[error(transparent)]
    Group(#[from] BadGroup),
}

impl FromStr for To {
    type Err = BadTo;

    fn from_str(text: &str) -> Result<Self, BadTo> {
        let text = text.trim();
        let form = || BadTo::Form(text.chars().take(64).collect());
        if let Some(rest) = text.strip_prefix('#') {
            let (channel, group) = match rest.split_once('@') {
                Some((channel, group)) => (channel, Some(group)),
                None => (rest, None),
            };
            let base = channel.split_once('~').map_or(channel, |(name, _)| name);
            Name::new(base).map_err(|_| form())?;
            let channel = channel.to_owned();
            return Ok(match group {
                None | Some("all") => Self::Channel(channel),
                Some(group) => Self::ChannelGroup(channel, group.parse()?),
            });
        }
        match text {
            "*" | "@all" => Ok(Self::All),
            _ if text.starts_with('@') => Ok(Self::Group(text.parse()?)),
            _ if text.contains('/') => text.parse().map(Self::Path).map_err(|_| form()),
            _ => Name::new(text).map(Self::Name).map_err(|_| form()),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Path(path) => path.fmt(f),
            Self::Group(group) => write!(f, "@{group}"),
            Self::All => f.write_str("@all"),
            Self::Channel(channel) => write!(f, "#{channel}"),
            Self::ChannelGroup(channel, group) => write!(f, "#{channel}@{group}"),
        }
    }
}

/// A session that is in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its address.
    pub path: SessionPath,
    /// The groups it carries there.
    pub groups: Vec<Group>,
}

/// A followed channel, and who is in it. `K` is what the caller knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area<K> {
    /// Which.
    pub key: K,
    /// Its name, without the `#`.
    pub name: String,
    /// The name that no other channel has: `ops~3f2a`.
    pub exact: String,
    /// Which server it is on, by the caller's count.
    pub server: usize,
    /// This session, on that server.
    pub me: Option<SessionPath>,
    /// The users who are members, there or not.
    pub members: BTreeSet<Name>,
    /// Who is in it.
    pub seats: Vec<Seat>,
}

impl<K> Area<K> {
    fn others(&self) -> impl Iterator<Item = &Seat> {
        self.seats
            .iter()
            .filter(|seat| Some(&seat.path) != self.me.as_ref())
    }

    /// Returns whether a name is a member's: then it is no handle, whoever took it for one.
    fn has_user(&self, name: &Name) -> bool {
        self.members.contains(name) || self.seats.iter().any(|seat| seat.path.user == *name)
    }

    fn in_group(&self, group: &Group) -> impl Iterator<Item = &Seat> {
        let carries = |seat: &&Seat| seat.groups.iter().any(|label| group.reaches(label));
        self.others().filter(carries)
    }
}

/// One entry that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<K> {
    /// In a channel.
    Channel {
        /// Which.
        key: K,
        /// Its name.
        name: String,
        /// On which server.
        server: usize,
        /// For these groups alone; none: for everybody.
        to: Vec<Group>,
        /// Whom that means now.
        recipients: Vec<SessionPath>,
    },
    /// In one session's mailbox.
    Session {
        /// On which server, where somebody of that name was seen.
        server: Option<usize>,
        /// Whose.
        path: SessionPath,
    },
}

/// Why a target means nobody in particular.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// There is nothing of that name.
    #[error("there is no {what} `{to}`{place}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// What was written.
        to: String,
        /// Where, if it matters.
        place: String,
        /// What is near.
        candidates: Vec<String>,
    },
    /// It is a user who has no session there.
    #[error(
        "the user `{0}` has no session in your channels now; whispers wait for a session that is named by its whole path, user/machine/session"
    )]
    Away(String),
    /// Several things could be meant.
    #[error("`{to}` could be several")]
    Ambiguous {
        /// What was written.
        to: String,
        /// What could be meant.
        candidates: Vec<String>,
    },
    /// It is the sender itself.
    #[error("`{0}` is you")]
    Yourself(String),
    /// The target needs a home channel.
    #[error("`{0}` needs a channel: write #channel@group, or name a channel")]
    NoHome(String),
}

/// Returns what is to be said where, so that everybody meant gets it: each channel once, for the union
/// of its groups, and each session once. `home` is the place of the home channel in the list; names are
/// looked up there first, and then everywhere.
///
/// # Errors
/// [`Unresolved`], for the first target that fails.
pub fn resolve<K: Clone>(
    targets: &[To],
    areas: &[Area<K>],
    home: Option<usize>,
) -> Result<Vec<Part<K>>, Unresolved> {
    let mut parts: Vec<(usize, Option<BTreeSet<Group>>)> = Vec::new();
    let mut sessions: Vec<(Option<usize>, SessionPath)> = Vec::new();
    for to in targets {
        let (area, group) = match to {
            To::Name(name) => {
                sessions.push(one_named(name, areas, home)?);
                continue;
            }
            To::Path(path) => {
                sessions.push(by_path(path, areas)?);
                continue;
            }
            To::All => (home_of(to, home)?, None),
            To::Group(group) => (home_of(to, home)?, Some(group)),
            To::Channel(name) => (channel_named(name, areas)?, None),
            To::ChannelGroup(name, group) => (channel_named(name, areas)?, Some(group)),
        };
        if let Some(group) = group {
            carried(group, to, areas.get(area))?;
        }
        let at = match parts.iter().position(|(of, _)| *of == area) {
            Some(at) => at,
            None => {
                parts.push((area, Some(BTreeSet::new())));
                parts.len() - 1
            }
        };
        if let Some((_, groups)) = parts.get_mut(at) {
            match (group, groups.as_mut()) {
                (Some(group), Some(groups)) => drop(groups.insert(group.clone())),
                // Everybody takes the groups in.
                (None, _) => *groups = None,
                (Some(_), None) => {}
            }
        }
    }
    let channels = parts.into_iter().filter_map(|(at, groups)| {
        let area = areas.get(at)?;
        let to: Vec<Group> = groups.unwrap_or_default().into_iter().collect();
        let means = |seat: &&Seat| {
            let carries = |group: &Group| seat.groups.iter().any(|label| group.reaches(label));
            to.is_empty() || to.iter().any(carries)
        };
        let recipients = area.others().filter(means).map(|seat| seat.path.clone());
        Some(Part::Channel {
            key: area.key.clone(),
            name: told_apart(area, areas),
            server: area.server,
            recipients: recipients.collect(),
            to,
        })
    });
    let mut all: Vec<Part<K>> = channels.collect();
    for (server, path) in sessions {
        let same = |part: &Part<K>| matches!(part, Part::Session { path: p, .. } if *p == path);
        if !all.iter().any(same) {
            all.push(Part::Session { server, path });
        }
    }
    Ok(all)
}

fn home_of(to: &To, home: Option<usize>) -> Result<usize, Unresolved> {
    home.ok_or_else(|| Unresolved::NoHome(to.to_string()))
}

fn channel_named<K>(name: &str, areas: &[Area<K>]) -> Result<usize, Unresolved> {
    let fits = |(_, area): &(usize, &Area<K>)| area.name == name || area.exact == name;
    let found: Vec<(usize, &Area<K>)> = areas.iter().enumerate().filter(fits).collect();
    match found.as_slice() {
        [(one, _)] => Ok(*one),
        [] => Err(Unresolved::NotFound {
            what: "channel",
            to: format!("#{name}"),
            place: " that this session follows".into(),
            candidates: nearest(name, areas.iter().map(|area| format!("#{}", area.name))),
        }),
        several => Err(Unresolved::Ambiguous {
            to: format!("#{name}"),
            candidates: several
                .iter()
                .map(|(_, area)| format!("#{}", area.exact))
                .collect(),
        }),
    }
}

/// Returns a channel's name, exact where another has the same.
fn told_apart<K>(area: &Area<K>, all: &[Area<K>]) -> String {
    let same = all.iter().filter(|other| other.name == area.name);
    match same.count() {
        1 => area.name.clone(),
        _ => area.exact.clone(),
    }
}

/// Checks that somebody else carries a group.
fn carried<K>(group: &Group, to: &To, area: Option<&Area<K>>) -> Result<(), Unresolved> {
    let Some(area) = area else {
        return Err(Unresolved::NoHome(to.to_string()));
    };
    if area.in_group(group).next().is_some() {
        return Ok(());
    }
    let known: BTreeSet<&Group> = area.others().flat_map(|seat| &seat.groups).collect();
    let known = known.into_iter().map(|group| format!("@{group}"));
    let paths = area.others().map(|seat| seat.path.to_string());
    let mut candidates = nearest(group.as_str(), known);
    // Who writes @ before a session's name means the session.
    candidates.extend(paths.filter(|path| {
        let names = path.split('/').any(|name| name == group.as_str());
        names || path == group.as_str()
    }));
    candidates.truncate(CANDIDATES_MAX);
    Err(Unresolved::NotFound {
        what: "group",
        to: to.to_string(),
        place: format!(" that somebody else in #{} carries", area.name),
        candidates,
    })
}

/// Finds a session by a name: a member's sessions, wherever one is a member of that name; a handle only
/// if nobody is.
fn one_named<K>(
    name: &Name,
    areas: &[Area<K>],
    home: Option<usize>,
) -> Result<(Option<usize>, SessionPath), Unresolved> {
    let users = areas.iter().filter(|area| area.has_user(name));
    let users: BTreeSet<usize> = users.map(|area| area.server).collect();
    // Users of that name on several servers are several people: the home channel's is meant.
    let of_home = home.and_then(|at| areas.get(at)).map(|area| area.server);
    let only = of_home.filter(|server| users.contains(server));
    let is_meant = |area: &Area<K>, path: &SessionPath| match users.is_empty() {
        true => path.handle == *name,
        false => path.user == *name && only.is_none_or(|server| server == area.server),
    };
    let in_home = areas.iter().enumerate().filter(|(at, _)| Some(*at) == home);
    let in_home: Vec<_> = in_home.map(|(_, area)| area).collect();
    for places in [in_home, areas.iter().collect()] {
        let mut found: BTreeSet<(usize, &SessionPath)> = BTreeSet::new();
        for area in places {
            let named = area.others().filter(|seat| is_meant(area, &seat.path));
            found.extend(named.map(|seat| (area.server, &seat.path)));
        }
        let first = found
            .first()
            .map(|(server, path)| (*server, (*path).clone()));
        let several = found.len() > 1 || (only.is_none() && users.len() > 1);
        match first {
            Some((server, path)) if !several => return Ok((Some(server), path)),
            Some(_) => {
                let candidates = found.iter().map(|(_, path)| path.to_string());
                return Err(Unresolved::Ambiguous {
                    to: name.to_string(),
                    candidates: candidates.take(CANDIDATES_MAX).collect(),
                });
            }
            None => {}
        }
    }
    let is_me = |area: &Area<K>| area.me.as_ref().is_some_and(|path| is_meant(area, path));
    if areas.iter().any(is_me) {
        return Err(Unresolved::Yourself(name.to_string()));
    }
    if !users.is_empty() {
        return Err(Unresolved::Away(name.to_string()));
    }
    Err(unknown(name, areas))
}

/// Says that nobody has a name, and what is near.
fn unknown<K>(name: &Name, areas: &[Area<K>]) -> Unresolved {
    let others = areas.iter().flat_map(Area::others);
    let mut known: BTreeSet<String> = others.map(|seat| seat.path.to_string()).collect();
    known.extend(areas.iter().map(|area| format!("#{}", area.name)));
    let groups = areas.iter().flat_map(Area::others);
    known.extend(
        groups
            .flat_map(|seat| &seat.groups)
            .map(|group| format!("@{group}")),
    );
    Unresolved::NotFound {
        what: "session or user",
        to: name.to_string(),
        place: " in the channels that this session follows".into(),
        candidates: nearest(name.as_str(), known.into_iter()),
    }
}

fn by_path<K>(
    path: &SessionPath,
    areas: &[Area<K>],
) -> Result<(Option<usize>, SessionPath), Unresolved> {
    let seen: BTreeSet<usize> = areas
        .iter()
        .filter(|area| area.others().any(|seat| seat.path == *path))
        .map(|area| area.server)
        .collect();
    let mine = |area: &Area<K>| area.me.as_ref() == Some(path);
    if seen.is_empty() && areas.iter().any(mine) {
        return Err(Unresolved::Yourself(path.to_string()));
    }
    let server = seen.first().filter(|_| seen.len() == 1).copied();
    Ok((server, path.clone()))
}

/// Returns what is written most like `text`, the nearest first; all there is if nothing is.
fn nearest(text: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: Vec<(usize, String)> = known
        .map(|name| {
            let bare = name.trim_start_matches(['#', '@']);
            let parts = bare.split('/').chain([bare]);
            let away = parts.map(|part| distance(text, part)).min();
            (away.unwrap_or(usize::MAX), name)
        })
        .collect();
    known.sort();
    known.dedup();
    known.truncate(CANDIDATES_MAX);
    known.into_iter().map(|(_, name)| name).collect()
}

/// Returns how many letters have to change to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (at, to) in b.iter().enumerate() {
            let Some(cell) = row.get_mut(at + 1) else {
                break;
            };
            let kept = before + usize::from(from != *to);
            before = *cell;
            *cell = kept.min(*cell + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Returns the handles and sessions that a text names with an `@`, each once, at most
/// [`MENTIONS_MAX`].
#[must_use]
pub fn mentions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '@' && !before.is_alphanumeric() {
            let rest = text.get(at + 1..).unwrap_or_default();
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
            let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
            // A full stop or a dash at the end belongs to the sentence.
            let word = rest.get(..end).unwrap_or_default();
            let word = word.trim_end_matches(['.', '-', '_', '/']);
            let names = match word.contains('/') {
                true => word.parse::<SessionPath>().is_ok(),
                false => Name::new(word).is_ok(),
            };
            if names && found.len() < MENTIONS_MAX && found.iter().all(|known| known != word) {
                found.push(word.to_owned());
            }
        }
        before = c;
    }
    found
}

/// Returns whether one of these mentions means a session.
#[must_use]
pub fn is_mentioned(mentions: &[String], path: &SessionPath) -> bool {
    let full = path.to_string();
    let means = |word: &String| *word == full || word == path.handle.as_str();
    mentions.iter().take(MENTIONS_MAX).any(means)
}
