//! Whom a call means: its targets, looked up among those who are there.

use super::answer::Failure;
use super::args::{Args, Kind, need};
use super::messages::answered;
use super::{Arg, Step};
use crate::fabric::{Later, Part, PeerInfo, Target};
use crate::session::{Session, exact_name};
use crate::state::HomeId;
use conclave_client::address::{self, Area, Seat, TARGETS_MAX, To, Unresolved, resolve};
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// The most channels in which a name is looked up.
const AREAS_MAX: usize = 32;

/// The targets of a call.
pub(super) const TO: Arg = need(
    "to",
    Kind::Texts(TARGETS_MAX),
    "name, user/machine/session, @group, #channel, #channel@group or * (all), or a list",
);

/// What targets come to: one server, and the places on it by the names that the agent knows.
pub(super) struct Addressed {
    pub(super) home: HomeId,
    pub(super) parts: Vec<(String, Part)>,
}

/// What a call's targets are looked up in, before anybody was asked who is there.
struct Search {
    targets: Vec<To>,
    areas: Vec<Area<(HomeId, ChannelId)>>,
    home: Option<usize>,
    asked: BTreeMap<usize, Later<Vec<PeerInfo>>>,
    members: Vec<Later<BTreeSet<Name>>>,
}

/// Finds out whom a call means, and goes on with that.
pub(super) fn addressed(
    session: &Session,
    args: &Args,
    then: impl FnOnce(&mut Session, Now, Addressed) -> Result<Step, Failure> + Send + 'static,
) -> Result<Step, Failure> {
    let bad = |e: address::BadTo| Failure::arguments(format!("`to`: {e}"));
    let targets = args.texts("to").into_iter().map(str::parse);
    let targets = targets.collect::<Result<Vec<To>, _>>().map_err(bad)?;
    let parent = answered(session, args, None)?;
    let only = match parent {
        Some(home) => Some(home),
        None => session.find_home(args).ok(),
    };
    let search = Search::new(session, args, targets)?;
    let found: Later<_> = Box::pin(async move { Ok(search.run().await) });
    Ok(Step::chain(found, move |session, now, found| {
        let parts = found?;
        let servers = parts.iter().filter_map(|part| match part {
            address::Part::Channel { server, .. } => Some(*server),
            address::Part::Session { server, .. } => *server,
        });
        let mut servers: Vec<usize> = servers.collect();
        servers.sort_unstable();
        servers.dedup();
        let home = match (servers.as_slice(), only) {
            ([one], _) => HomeId(*one),
            ([], Some(home)) => home,
            ([], None) => {
                let text = "this session has several servers, and the name is known on none";
                return Err(Failure::new("ambiguous", text, "say which with `server`"));
            }
            _ => {
                let text = "the targets are on several servers";
                return Err(Failure::arguments(text));
            }
        };
        let parts = parts.into_iter().map(named).collect();
        then(session, now, Addressed { home, parts })
    }))
}

impl Search {
    fn new(session: &Session, args: &Args, targets: Vec<To>) -> Result<Self, Failure> {
        let by_name = args.text("channel").is_some();
        let home = match session.find_channel(args) {
            Ok(found) => Some((found.home, found.channel.id)),
            Err(failure) if by_name => return Err(failure),
            Err(_) => None,
        };
        let (mut areas, mut asked, mut members) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (server, view) in session.find_homes(args)? {
            let followed = view.channels.into_iter().filter(|channel| channel.followed);
            for channel in followed {
                let key = (server, channel.id);
                if areas.len() >= AREAS_MAX && home != Some(key) {
                    continue;
                }
                let fabric = session.fabric(server)?;
                asked.insert(areas.len(), fabric.roster(channel.id));
                members.push(fabric.members(channel.id));
                areas.push(Area {
                    key,
                    exact: exact_name(&channel),
                    name: channel.name.to_string(),
                    server: server.0,
                    me: view.path.clone(),
                    members: BTreeSet::new(),
                    seats: Vec::new(),
                });
            }
        }
        let home = areas.iter().position(|area| Some(area.key) == home);
        Ok(Self {
            targets,
            areas,
            home,
            asked,
            members,
        })
    }

    /// Asks who is there, no more than it takes, and resolves the targets.
    async fn run(mut self) -> Result<Vec<address::Part<(HomeId, ChannelId)>>, Failure> {
        let mut needed: Vec<usize> = Vec::new();
        let mut names = false;
        for to in &self.targets {
            match to {
                To::Path(_) => {}
                To::Name(_) => {
                    names = true;
                    needed.extend(self.home);
                }
                To::Group(_) | To::All => needed.extend(self.home),
                To::Channel(name) | To::ChannelGroup(name, _) => {
                    let all = self.areas.iter().enumerate();
                    let fits = all.filter(|(_, area)| area.name == *name || area.exact == *name);
                    needed.extend(fits.map(|(at, _)| at));
                }
            }
        }
        if names {
            self.learn_members().await;
        }
        let offline = self.ask(needed).await;
        let mut found = resolve(&self.targets, &self.areas, self.home);
        let nobody =
            |e: &Unresolved| matches!(e, Unresolved::NotFound { .. } | Unresolved::Away(_));
        if names && found.as_ref().is_err_and(nobody) {
            let rest: Vec<usize> = self.asked.keys().copied().collect();
            self.ask(rest).await;
            found = resolve(&self.targets, &self.areas, self.home);
        }
        match (found, offline) {
            (Ok(parts), _) => Ok(parts),
            // Without an answer nobody is known to be there: that is no reason to say there is nobody.
            (Err(Unresolved::NotFound { what, .. }), Some(reject)) if what != "channel" => {
                Err(reject.into())
            }
            (Err(Unresolved::Away(_)), Some(reject)) => Err(reject.into()),
            (Err(error), _) => Err(failure(error)),
        }
    }

    /// Fills in who is a member where: a user's name is nobody else's, whether the user is there or not.
    async fn learn_members(&mut self) {
        let asked = std::mem::take(&mut self.members);
        for (area, members) in self.areas.iter_mut().zip(asked) {
            match members.await {
                Ok(members) => area.members = members,
                Err(error) => tracing::debug!(%error, "the members are not known"),
            }
        }
    }

    /// Fills in who is in some channels, all at once; returns why one could not be asked.
    async fn ask(&mut self, areas: Vec<usize>) -> Option<Reject> {
        let mut asking = tokio::task::JoinSet::new();
        for at in areas {
            if let Some(roster) = self.asked.remove(&at) {
                asking.spawn(async move { (at, roster.await) });
            }
        }
        let mut fault = None;
        while let Some(Ok((at, roster))) = asking.join_next().await {
            match (roster, self.areas.get_mut(at)) {
                (Ok(peers), Some(area)) => area.seats = peers.into_iter().map(seat).collect(),
                (Err(reject), _) => fault = Some(reject),
                (Ok(_), None) => {}
            }
        }
        fault
    }
}

fn seat(peer: PeerInfo) -> Seat {
    let groups = peer.profile.into_iter().flat_map(|profile| profile.groups);
    Seat {
        path: peer.path,
        groups: groups.map(|label| label.name).collect(),
    }
}

/// Gives a part the name the agent knows it by.
fn named(part: address::Part<(HomeId, ChannelId)>) -> (String, Part) {
    match part {
        address::Part::Channel {
            key: (_, id),
            name,
            to,
            recipients,
            ..
        } => {
            let groups = to
                .iter()
                .map(|group| format!("@{group}"))
                .collect::<String>();
            let part = Part {
                target: Target::Channel(id),
                to,
                recipients,
            };
            (format!("#{name}{groups}"), part)
        }
        address::Part::Session { path, .. } => {
            let name = path.to_string();
            let part = Part {
                target: Target::Session(path),
                to: Vec::new(),
                recipients: Vec::new(),
            };
            (name, part)
        }
    }
}

pub(super) fn failure(error: Unresolved) -> Failure {
    let text = error.to_string();
    match error {
        Unresolved::NotFound { candidates, .. } => {
            Failure::from(Reject::new(Code::NotFound, text)).candidates(candidates)
        }
        Unresolved::Away(_) => Failure::from(Reject::new(Code::NotFound, text)),
        Unresolved::Ambiguous { candidates, .. } => {
            Failure::new("ambiguous", text, "name one of the candidates").candidates(candidates)
        }
        Unresolved::Yourself(_) => Failure::new(
            "yourself",
            text,
            "name somebody else: list_peers shows who is there",
        ),
        Unresolved::NoHome(_) => {
            Failure::new("ambiguous", text, "list_channels shows what you are in")
        }
    }
}
