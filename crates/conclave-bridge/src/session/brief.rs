//! What an agent is told of where it is, when it starts or has forgotten: who it is, who is there, what it owes.
//!
//! Names of the narrow alphabet only: what peers wrote freely is in frames, elsewhere.

use super::{Done, Session};
use crate::fabric::{ChannelView, PeerInfo, ServerView};
use crate::policy::Scope;
use crate::state::{HomeId, Owed, Place};
use conclave_client::item::Claim;
use conclave_proto::name::SessionPath;
use conclave_proto::profile::Label;
use std::time::Duration;

/// The longest brief, in bytes.
const BRIEF_BYTES_MAX: usize = 1_200;
/// The most peers, questions and claims that are named.
const PEERS_MAX: usize = 8;
const OWED_MAX: usize = 4;
const CLAIMS_MAX: usize = 4;
/// How long the servers may take to say who is there: the host waits.
const GATHER: Duration = Duration::from_millis(700);

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Where it is.
    Short,
    /// What it forgot, too.
    Full,
}

impl Form {
    /// Returns how much is told after a start of this kind.
    pub(super) fn after(source: Option<&str>) -> Self {
        match source {
            None | Some("startup") => Self::Short,
            Some(_) => Self::Full,
        }
    }
}

/// What the home channel's server says.
struct Gathered {
    form: Form,
    home: HomeId,
    channel: ChannelView,
    peers: Option<Vec<PeerInfo>>,
    claims: Vec<Claim>,
}

impl Session {
    /// Returns the home channel, or the first one that this session follows.
    pub(super) fn home_place(&self) -> Option<(HomeId, ServerView, ChannelView)> {
        let views = self.homes.iter().enumerate();
        let places = views.flat_map(|(at, fabric)| {
            let view = fabric.view();
            let channels = view.channels.clone().into_iter();
            let joined = channels.filter(|c| c.role.is_some());
            joined.map(move |channel| (HomeId(at), view.clone(), channel))
        });
        let mut places: Vec<_> = places.collect();
        let wanted = self.home_channel.as_ref();
        let named = |channel: &ChannelView| wanted.is_some_and(|name| channel.is_called(name));
        let at = places.iter().position(|(_, _, c)| named(c));
        let at = at.or_else(|| places.iter().position(|(_, _, c)| c.followed))?;
        Some(places.swap_remove(at))
    }

    /// Asks what the brief needs, for a moment, and hands it on.
    pub(super) fn brief(
        &mut self,
        form: Form,
        then: impl FnOnce(&mut Self, String) + Send + 'static,
    ) {
        let Some((home, view, channel)) = self.home_place() else {
            let text = self.nowhere();
            return then(self, text);
        };
        let Some(fabric) = self.homes.get(home.0).filter(|_| view.online) else {
            let gathered = Gathered {
                form,
                home,
                channel,
                peers: None,
                claims: Vec::new(),
            };
            let text = self.briefed(gathered);
            return then(self, text);
        };
        let (roster, claims) = (fabric.roster(channel.id), fabric.claims(channel.id));
        self.tasks.spawn(async move {
            let roster = tokio::time::timeout(GATHER, roster);
            let claims = async {
                match form {
                    Form::Short => None,
                    Form::Full => tokio::time::timeout(GATHER, claims).await.ok()?.ok(),
                }
            };
            let (roster, claims) = tokio::join!(roster, claims);
            let gathered = Gathered {
                form,
                home,
                channel,
                peers: roster.ok().and_then(Result::ok),
                claims: claims.unwrap_or_default(),
            };
            Done::Then(Box::new(move |session| {
                let text = session.briefed(gathered);
                then(session, text);
            }))
        });
    }

    fn nowhere(&self) -> String {
        let path = self.homes.first().and_then(|fabric| fabric.view().path);
        path.map_or_else(String::new, |me| {
            format!("conclave: you are {me}, in no channel; join_channel enters one.")
        })
    }

    fn briefed(&mut self, found: Gathered) -> String {
        let Some(view) = self.view(found.home) else {
            return String::new();
        };
        let others = |peers: &Vec<PeerInfo>| {
            let others = peers.iter().filter(|p| Some(&p.path) != view.path.as_ref());
            others.filter(|p| p.online).count()
        };
        self.agent.crowd = found.peers.as_ref().map(others);
        self.agent.crowd_at = Some(self.now().mono);
        let level = self
            .state
            .level(found.home, Scope::Channel(found.channel.id));
        let labels = view.labels.profile(&found.channel.id);
        let groups: Vec<String> = labels.groups.iter().map(label).collect();
        let text = Text {
            me: view.path.clone(),
            role: labels.role.map(|role| role.to_string()),
            groups,
            channel: found.channel.name.to_string(),
            level: level.to_string(),
            online: view.online,
            peers: found.peers.unwrap_or_default(),
            crowd: self.agent.crowd,
            owed: self.state.owed().cloned().collect(),
            claims: found.claims,
            unread: self.state.unread(),
        };
        text.in_form(found.form)
    }
}

fn label(label: &Label) -> String {
    format!("@{label}")
}

/// What a brief is made of.
struct Text {
    me: Option<SessionPath>,
    role: Option<String>,
    groups: Vec<String>,
    channel: String,
    level: String,
    online: bool,
    peers: Vec<PeerInfo>,
    crowd: Option<usize>,
    owed: Vec<Owed>,
    claims: Vec<Claim>,
    unread: usize,
}

impl Text {
    fn in_form(&self, form: Form) -> String {
        let sentences = match form {
            Form::Short => vec![self.who(), self.count(), self.fetch()],
            Form::Full => vec![
                self.who(),
                self.there(),
                self.asked(),
                self.holds(),
                self.fetch(),
            ],
        };
        let mut text = String::from("conclave:");
        for sentence in sentences.into_iter().filter(|s| !s.is_empty()) {
            if text.len() + 1 + sentence.len() <= BRIEF_BYTES_MAX {
                text.push(' ');
                text.push_str(&sentence);
            }
        }
        text
    }

    fn who(&self) -> String {
        let me = (self.me.as_ref())
            .map_or_else(|| "not connected".to_owned(), |me| format!("you are {me}"));
        let labels: Vec<&str> = self
            .role
            .iter()
            .chain(&self.groups)
            .map(String::as_str)
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!(" ({})", labels.join(", ")),
        };
        let away = if self.online { "" } else { ", offline now" };
        format!(
            "{me}{labels} in #{}, level {}{away}.",
            self.channel, self.level
        )
    }

    fn count(&self) -> String {
        match self.crowd {
            None => String::new(),
            Some(0) => "Nobody else is there.".into(),
            Some(1) => "1 other session is there (list_peers).".into(),
            Some(n) => format!("{n} other sessions are there (list_peers)."),
        }
    }

    fn there(&self) -> String {
        let others = self
            .peers
            .iter()
            .filter(|p| Some(&p.path) != self.me.as_ref());
        let named = others.filter(|p| p.online).take(PEERS_MAX).map(peer);
        let named: Vec<String> = named.collect();
        let more = self.crowd.unwrap_or_default().saturating_sub(named.len());
        match (named.is_empty(), more) {
            (true, _) => self.count(),
            (false, 0) => format!("There: {}.", named.join(", ")),
            (false, more) => format!("There: {} and {more} more.", named.join(", ")),
        }
    }

    fn asked(&self) -> String {
        let questions = self.owed.iter().take(OWED_MAX).map(|owed| {
            let place = match &owed.place {
                Place::Whisper => "in a whisper".to_owned(),
                Place::Channel(_, name) => format!("in #{name}"),
            };
            format!("{} of {} {place}", owed.id, owed.from)
        });
        let questions: Vec<String> = questions.collect();
        match questions.as_slice() {
            [] => String::new(),
            all => format!(
                "You were asked and have not answered: {} (read_message; answer with reply_to).",
                all.join(", ")
            ),
        }
    }

    fn holds(&self) -> String {
        let own = self
            .claims
            .iter()
            .filter(|c| Some(&c.holder) == self.me.as_ref());
        let own: Vec<String> = own.map(|claim| claim.resource.clone()).collect();
        let named: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .filter(|r| is_plain(r))
            .take(CLAIMS_MAX)
            .collect();
        match (own.len(), named.len()) {
            (0, _) => String::new(),
            (n, 0) => format!("You hold {n} claims (list_claims)."),
            (n, shown) if n > shown => format!(
                "You hold claims: {} and {} more.",
                named.join(", "),
                n - shown
            ),
            (_, _) => format!("You hold claims: {}.", named.join(", ")),
        }
    }

    fn fetch(&self) -> String {
        match self.unread {
            0 => String::new(),
            1 => "1 message is unread: check_messages.".into(),
            n => format!("{n} messages are unread: check_messages."),
        }
    }
}

/// Names a peer, by what has a narrow alphabet.
fn peer(peer: &PeerInfo) -> String {
    let profile = peer.profile.as_ref();
    let role = profile
        .and_then(|p| p.role.as_ref())
        .map(ToString::to_string);
    let status = profile
        .and_then(|p| p.status)
        .map(|s| s.as_str().to_owned());
    let facts: Vec<String> = role.into_iter().chain(status).collect();
    match facts.as_slice() {
        [] => peer.path.to_string(),
        facts => format!("{} ({})", peer.path, facts.join(", ")),
    }
}

/// Returns whether a resource is a plain name: an agent may have claimed in anybody's words.
fn is_plain(resource: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@+*~-".contains(&b);
    resource.len() <= 120 && resource.bytes().all(plain)
}
