//! What Codex CLI is started with: our server as settings on its command line, where it is not configured.

use super::{Ours, Plan};
use std::ffi::OsString;
use std::path::Path;

/// The table of our server in Codex's configuration.
const TABLE: &str = "mcp_servers.conclave";

/// Returns whether Codex's configuration names our server.
pub(crate) fn knows_us(codex_home: &Path) -> bool {
    let text = std::fs::read_to_string(codex_home.join("config.toml")).unwrap_or_default();
    let table: Option<toml::Table> = toml::from_str(&text).ok();
    let servers = table.as_ref().and_then(|table| table.get("mcp_servers"));
    servers.is_some_and(|servers| servers.get("conclave").is_some())
}

/// Decides what Codex is started with.
pub(crate) fn plan(rest: &[OsString], known: bool, ours: &Ours) -> Plan {
    let mut arguments: Vec<OsString> = Vec::new();
    if !known {
        let command = toml::Value::String(ours.program.display().to_string());
        let args = toml::Value::try_from(ours.arguments("bridge"));
        let args = args.unwrap_or_else(|_| toml::Value::Array(Vec::new()));
        for (key, value) in [("command", command), ("args", args)] {
            arguments.extend(["-c".into(), format!("{TABLE}.{key}={value}").into()]);
        }
    }
    arguments.extend(rest.iter().cloned());
    Plan {
        arguments,
        notes: vec!["Codex shows no messages as they come: its agent waits, or checks".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_server_is_named_where_codex_does_not_know_it() {
        let ours = Ours {
            program: "/bin/con clave".into(),
            home: "/h".into(),
        };
        let text = |plan: Plan| {
            let words = plan
                .arguments
                .iter()
                .map(|arg| super::super::text(arg).to_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        let rest = [OsString::from("resume")];
        assert_eq!(text(plan(&rest, true, &ours)), "resume");
        assert_eq!(
            text(plan(&rest, false, &ours)),
            "-c mcp_servers.conclave.command=\"/bin/con clave\" \
             -c mcp_servers.conclave.args=[\"--config-dir\", \"/h\", \"bridge\"] resume"
        );
    }
}
