//! What is claimed, as far as this machine's replicas know: for hooks, which have no time to ask.

use super::Context;
use super::item::cell;
use super::open;
use crate::text::now;
use conclave_bridge::files::hosts;
use conclave_client::claim::{Resource, Standing};
use conclave_client::home::{Home, Profile};
use conclave_client::replica::peek;
use conclave_proto::time::UnixMs;

/// A claim that holds now.
#[derive(Debug)]
pub(crate) struct Held {
    /// The claim.
    pub(crate) claim: Standing,
    /// What it is on.
    resource: Resource,
    /// How long it still holds, in milliseconds.
    left_ms: u64,
    /// Whether it is of the session that asks.
    pub(crate) own: bool,
}

impl Held {
    /// Returns whether it is on this, too.
    pub(crate) fn covers(&self, resource: &Resource) -> bool {
        self.resource.overlaps(resource)
    }

    /// Says who holds it, for people.
    pub(crate) fn sentence(&self) -> String {
        let note = self
            .claim
            .note
            .as_deref()
            .map(|note| format!(": {}", cell(note)));
        let note = note.unwrap_or_default();
        format!("{}{note}", self.fact())
    }

    /// Says who holds it, without a word of the holder's.
    pub(crate) fn fact(&self) -> String {
        let minutes = self.left_ms.div_ceil(60_000);
        format!(
            "{} holds a claim on it for {minutes} more min",
            self.claim.holder
        )
    }
}

/// Returns every claim that holds. `session` is how the host names the agent's session: its bridge noted
/// which one that is. Without such a note every session of this machine counts as the one that asks.
/// Whatever cannot be read is left out.
pub(crate) fn standing(cx: &Context, session: Option<&str>) -> Vec<Held> {
    let Ok(Some(home)) = open::existing_home(cx) else {
        return Vec::new();
    };
    let servers = home.servers().unwrap_or_default();
    servers
        .iter()
        .flat_map(|server| of_server(&home, server, session))
        .collect()
}

fn of_server(home: &Home, server: &Profile, session: Option<&str>) -> Vec<Held> {
    let dir = home.server_dir(&server.id);
    let Ok(known) = peek::claims(&dir.join("replica.sqlite")) else {
        return Vec::new();
    };
    // A host that came back may have a note under a name of before, too.
    let noted: Vec<String> = hosts(&dir)
        .into_iter()
        .filter(|note| Some(note.session_id.as_str()) == session)
        .map(|note| note.path.to_string())
        .collect();
    let account = server.user.as_ref();
    let machine = account.map(|account| format!("{}/{}/", account.user, account.machine));
    let is_own = |holder: &str| match &machine {
        _ if !noted.is_empty() => noted.iter().any(|path| path == holder),
        Some(machine) => holder.starts_with(machine.as_str()),
        None => false,
    };
    let now = UnixMs(now().0.saturating_add_signed(known.clock_ahead));
    let held = |(_, claim): (_, Standing)| {
        let resource = Resource::parse(&claim.resource).ok()?;
        let held = Held {
            resource,
            left_ms: claim.until().since(now),
            own: is_own(&claim.holder),
            claim,
        };
        (held.left_ms > 0).then_some(held)
    };
    known.claims.into_iter().filter_map(held).collect()
}
