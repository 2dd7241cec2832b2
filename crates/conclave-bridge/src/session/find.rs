//! Finds what a tool call means: the server, the channel, the message it answers. Names are resolved
//! here, against what this user is in; several fits are an error with candidates (DECISIONS 20, 27).

use super::Session;
use crate::fabric::{ChannelView, Fabric, ServerView};
use crate::state::HomeId;
use crate::tool::answer::Failure;
use crate::tool::args::Args;
use conclave_proto::reject::{Code, Reject};

/// A channel this user is in.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) home: HomeId,
    pub(crate) channel: ChannelView,
}

impl Session {
    /// Returns the servers a call can mean: the one it names, else all.
    fn meant(&self, args: &Args) -> Result<Vec<(HomeId, ServerView)>, Failure> {
        let views = self
            .homes
            .iter()
            .enumerate()
            .map(|(at, fabric)| (HomeId(at), fabric.view()));
        let Some(named) = args.text("server") else {
            return Ok(views.collect());
        };
        let fits = |view: &ServerView| {
            view.name == named
                || view.url.trim_end_matches('/') == named.trim_end_matches('/')
                || view.id.to_string() == named
        };
        let (fitting, others): (Vec<_>, Vec<_>) = views.partition(|(_, view)| fits(view));
        if fitting.is_empty() {
            let names = others.into_iter().map(|(_, view)| view.name).collect();
            let reject = Reject::new(
                Code::NotFound,
                "this session is not connected with that server",
            );
            return Err(Failure::from(reject).candidates(names));
        }
        Ok(fitting)
    }

    /// Returns the one server a call means.
    pub(crate) fn find_home(&self, args: &Args) -> Result<HomeId, Failure> {
        match self.meant(args)?.as_slice() {
            [(home, _)] => Ok(*home),
            [] => Err(Reject::new(Code::Offline, "this session has no server").into()),
            several => {
                let names = several.iter().map(|(_, view)| view.name.clone()).collect();
                Err(Failure::ambiguous("servers", names))
            }
        }
    }

    /// Returns every server with its view.
    pub(crate) fn find_homes(&self, args: &Args) -> Result<Vec<(HomeId, ServerView)>, Failure> {
        self.meant(args)
    }

    /// Returns the channel a call names, or the home channel.
    pub(crate) fn find_channel(&self, args: &Args) -> Result<Found, Failure> {
        let named = args
            .text("channel")
            .map(|name| name.trim_start_matches('#'));
        let home = self.home_channel.as_ref().map(|name| name.as_str());
        let wanted = named.or(home);
        let mut joined: Vec<Found> = Vec::new();
        for (home, view) in self.meant(args)? {
            let members = view
                .channels
                .into_iter()
                .filter(|channel| channel.role.is_some());
            joined.extend(members.map(|channel| Found { home, channel }));
        }
        let fits = |found: &Found| wanted.is_none_or(|wanted| is_named(&found.channel, wanted));
        let mut fitting: Vec<Found> = joined.iter().filter(|found| fits(found)).cloned().collect();
        match (fitting.pop(), fitting.is_empty()) {
            (Some(found), true) => Ok(found),
            (None, _) => {
                let reject = Reject::new(Code::NotFound, "you are in no channel of that name");
                Err(Failure::from(reject).candidates(names(&joined)))
            }
            (Some(last), false) => {
                fitting.push(last);
                let candidates = fitting.iter().map(|f| told_apart(f, &fitting)).collect();
                Err(Failure::ambiguous("channels", candidates))
            }
        }
    }

    /// Returns a server to ask.
    pub(crate) fn fabric(&self, home: HomeId) -> Result<&dyn Fabric, Failure> {
        let offline = || Failure::from(Reject::new(Code::Offline, "this session has no server"));
        self.homes
            .get(home.0)
            .map(AsRef::as_ref)
            .ok_or_else(offline)
    }
}

impl ChannelView {
    /// Returns whether a name is this channel's, short or exact.
    pub(crate) fn is_called(&self, name: &conclave_proto::name::Name) -> bool {
        is_named(self, name.as_str())
    }
}

fn is_named(channel: &ChannelView, wanted: &str) -> bool {
    channel.name.as_str() == wanted || exact_name(channel) == wanted
}

/// Returns a name that no other channel has: `ops~3f2a`.
pub(crate) fn exact_name(channel: &ChannelView) -> String {
    let [a, b, ..] = channel.id.as_bytes();
    format!("{}~{a:02x}{b:02x}", channel.name)
}

/// Returns a channel's name, exact where another has the same.
fn told_apart(found: &Found, all: &[Found]) -> String {
    let same = all
        .iter()
        .filter(|other| other.channel.name == found.channel.name);
    match same.count() {
        1 => found.channel.name.to_string(),
        _ => exact_name(&found.channel),
    }
}

fn names(joined: &[Found]) -> Vec<String> {
    let mut names: Vec<_> = joined
        .iter()
        .map(|found| found.channel.name.to_string())
        .collect();
    names.sort();
    names.dedup();
    names.truncate(20);
    names
}
