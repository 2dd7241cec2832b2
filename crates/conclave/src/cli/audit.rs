//! `conclave audit`: the server's record of what admins did.

use super::Context;
use super::open::{self, Target};
use crate::error::{CliError, Own};
use conclave_proto::body::Head;
use conclave_proto::frame::reply::AuditPage;
use conclave_proto::limit::PAGE_ENTRIES_MAX;
use conclave_server::audit;
use serde_json::json;

/// What can be done with the audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Recompute the chain and compare it with the server's signed checkpoint (server admins)
    Verify {
        #[command(flatten)]
        target: Target,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    let Command::Verify { target } = command;
    let (home, server) = open::server(cx, &target)?;
    let client = open::connect(&home, &server).await?;
    let limit = u32::try_from(PAGE_ENTRIES_MAX).unwrap_or(u32::MAX);
    let mut before: Option<Head> = None;
    let mut checked: Option<Head> = None;
    loop {
        let after = before.map_or(0, |head| head.n);
        let page: AuditPage = client.audit(after, limit).await?;
        if let Some(row) = audit::verify(before, &page.rows) {
            return Err(tampered(format!(
                "row {row} does not follow from the one before it"
            )));
        }
        let signed = page
            .checkpoint
            .as_ref()
            .map(|rec| audit::open_checkpoint(rec, &server.key));
        match signed {
            Some(None) => return Err(tampered("the checkpoint is not signed by the server's key")),
            Some(Some((head, _))) => checked = Some(head),
            None => {}
        }
        let differs = |row: &&conclave_proto::frame::reply::AuditRow| {
            checked.is_some_and(|head| head.n == row.n && head.hash != row.hash)
        };
        if let Some(row) = page.rows.iter().find(differs) {
            return Err(tampered(format!(
                "row {} is not the one that was signed",
                row.n
            )));
        }
        let Some(last) = page.rows.last() else { break };
        before = Some(Head {
            n: last.n,
            hash: last.hash,
        });
        if last.n >= page.head {
            break;
        }
    }
    client.stop().await;
    let rows = before.map_or(0, |head| head.n);
    let signed = checked.map(|head| head.n);
    if signed > Some(rows) {
        return Err(tampered("rows that were signed are missing"));
    }
    let object = json!({"ok": true, "rows": rows, "signed_up_to": signed});
    cx.out
        .result(format_args!("{rows} rows, one chain, as signed"), &object);
    Ok(())
}

fn tampered(message: impl Into<String>) -> CliError {
    CliError::own(Own::Audit, message)
        .hint("the server's record was changed: compare with a backup of its database")
}
