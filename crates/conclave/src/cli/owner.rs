//! The owner key: how a command that needs it gets it, and how a new one is shown once.

use super::Context;
use super::open;
use crate::error::CliError;
use crate::prompt;
use crate::text;
use conclave_bridge::files;
use conclave_bridge::policy::Policy;
use conclave_client::client::Signer;
use conclave_client::home::{Home, Profile};
use conclave_client::owner::Owner;
use conclave_client::{Client, ClientError};
use conclave_proto::channel_log::CtlError;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the recovery key comes from or goes to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OwnerArgs {
    /// Write the recovery key of a new account to FILE, or read that of an existing one from it
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key_file: Option<PathBuf>,
}

/// Checks, before an account is made, that its recovery key can be handed over.
pub(crate) fn check_handover(args: &OwnerArgs) -> Result<(), CliError> {
    let Some(path) = &args.recovery_key_file else {
        return prompt::need_person(
            "the recovery key of the new account is shown once and",
            "give --recovery-key-file FILE (it must not exist yet)",
        );
    };
    if path.exists() {
        return Err(
            CliError::usage(format!("{} exists already", path.display()))
                .hint("a recovery key is never written over a file; choose another one"),
        );
    }
    Ok(())
}

/// Hands the owner key of a new account over, and signs the first policy with it.
pub(crate) fn hand_over(
    cx: &Context,
    args: &OwnerArgs,
    home: &Home,
    server: &Profile,
    owner: &Owner,
) -> Result<(), CliError> {
    first_policy(home, server, owner)?;
    let recovery = owner.recovery();
    if let Some(path) = &args.recovery_key_file {
        return write_recovery(path, &recovery).map_err(|e| {
            // The key exists nowhere else: better on the screen than lost.
            cx.out.talk(format_args!("recovery key: {}", *recovery));
            CliError::local(format!("{}: {e}", path.display()))
                .hint("write the recovery key above down now")
        });
    }
    cx.out.talk("Your recovery key, shown once. Write it down; it is the way back, and above every machine:");
    cx.out.talk(format_args!("\n  {}\n", *recovery));
    let question = "Passphrase for a copy on this machine (Enter: none; you will type the recovery key when asked):";
    let passphrase = prompt::secret(cx.out, question)?;
    if !passphrase.is_empty() {
        owner.save(home, &server.id, &passphrase)?;
    }
    cx.out
        .talk("Peers may converse with your agents: `conclave perm show`, `conclave perm set`.");
    Ok(())
}

/// Signs what holds until the human decides otherwise: peers may converse.
pub(crate) fn first_policy(home: &Home, server: &Profile, owner: &Owner) -> Result<(), CliError> {
    let policy = Policy::first(server.id, text::now());
    keep_policy(home, server, &policy, owner)
}

/// Signs and keeps a policy.
pub(crate) fn keep_policy(
    home: &Home,
    server: &Profile,
    policy: &Policy,
    owner: &Owner,
) -> Result<(), CliError> {
    let signed = policy
        .sign(owner.secret())
        .map_err(|e| CliError::local(e.to_string()))?;
    let dir = home.server_dir(&server.id);
    files::keep_policy(&dir, &signed)
        .map_err(|e| CliError::local(format!("{}: {e}", dir.display())))
}

/// Gets the owner key of an existing account: from the file, the sealed copy, or the person.
pub(crate) fn unlock(
    cx: &Context,
    args: &OwnerArgs,
    home: &Home,
    server: &Profile,
) -> Result<Owner, CliError> {
    if let Some(path) = &args.recovery_key_file {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|e| CliError::local(format!("{}: {e}", path.display())))?;
        return Ok(Owner::from_recovery(text.trim())?);
    }
    prompt::need_person("the owner key", "give --recovery-key-file FILE")?;
    if Owner::has_copy(home, &server.id)? {
        let passphrase = prompt::secret(cx.out, "Passphrase (Enter: use the recovery key):")?;
        if !passphrase.is_empty()
            && let Some(owner) = Owner::load(home, &server.id, &passphrase)?
        {
            return Ok(owner);
        }
    }
    let recovery = prompt::secret(cx.out, "Recovery key:")?;
    Ok(Owner::from_recovery(&recovery)?)
}

/// Does something that may need the owner key: first without, then with it if it is asked for.
pub(crate) async fn if_needed<T>(
    cx: &Context,
    target: &open::Target,
    args: &OwnerArgs,
    work: impl AsyncFn(&Client, Signer<'_>) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let (home, server) = open::server(cx, target)?;
    let client = open::connect(&home, &server).await?;
    let mut result = work(&client, Signer::Machine).await;
    if let Err(ClientError::OwnerKey | ClientError::Ctl(CtlError::NeedsOwnerKey)) = result {
        let owner = unlock(cx, args, &home, &server)?;
        result = work(&client, Signer::Owner(&owner)).await;
    }
    client.stop().await;
    Ok(result?)
}

fn write_recovery(path: &Path, recovery: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(recovery.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
