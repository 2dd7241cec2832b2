//! `conclave status`: what this machine is, without asking anybody.

use super::Context;
use super::open;
use crate::error::CliError;
use conclave_client::home::{Home, Profile};
use conclave_client::owner::Owner;
use serde_json::{Value, json};

/// Shows what this machine is.
pub(crate) fn run(cx: &Context) -> Result<(), CliError> {
    let known = match open::existing_home(cx)? {
        Some(home) => known(&home)?,
        None => Vec::new(),
    };
    let dir = cx.config_dir()?.display().to_string();
    let objects: Vec<_> = known.iter().map(object).collect();
    let object = json!({"dir": dir, "version": env!("CARGO_PKG_VERSION"), "servers": objects});
    if known.is_empty() {
        let text = "This machine knows no server yet. `conclave up` starts one, `conclave join` takes an invite link.";
        cx.out.result(text, &object);
        return Ok(());
    }
    let row = |(s, copy): &Known| {
        let you = s
            .user
            .as_ref()
            .map_or_else(|| "-".to_owned(), |a| format!("{}/{}", a.user, a.machine));
        let copy = if *copy {
            "on this machine"
        } else {
            "recovery key"
        };
        [open::name(s), you, copy.to_owned()]
    };
    let rows: Vec<_> = known.iter().map(row).collect();
    cx.out
        .table(["server", "you are", "owner key"], &rows, &object);
    Ok(())
}

/// A server, and whether a sealed copy of the owner key is on this machine.
type Known = (Profile, bool);

fn known(home: &Home) -> Result<Vec<Known>, CliError> {
    let copy = |s: Profile| Ok((Owner::has_copy(home, &s.id)?, s));
    let with_copy = home.servers()?.into_iter().map(copy);
    with_copy
        .map(|found| found.map(|(copy, s)| (s, copy)))
        .collect()
}

fn object((server, copy): &Known) -> Value {
    json!({
        "server": open::name(server), "server_id": server.id,
        "user": server.user.as_ref().map(|a| &a.user),
        "machine": server.user.as_ref().map(|a| &a.machine),
        "owner_key_copy": copy,
    })
}
