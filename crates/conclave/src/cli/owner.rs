//! The owner key: how a command that needs it gets it, and how a new one is shown once.

use super::Context;
use super::open;
use crate::error::CliError;
use crate::output;
use crate::prompt;
use crate::text;
use conclave_bridge::files;
use conclave_bridge::policy::{Level, Policy};
use conclave_client::client::Signer;
use conclave_client::home::{Home, Profile};
use conclave_client::onboard::Welcome;
use conclave_client::owner::Owner;
use conclave_client::{Client, ClientError};
use conclave_proto::channel_log::CtlError;
use conclave_proto::key::OwnerKey;
use conclave_proto::reject::Code;
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
    offer_copy(cx, home, server, owner)?;
    cx.out.talk(MAY_CONVERSE);
    Ok(())
}

/// Takes what came of an onboarding. The owner key of an account that was made, or may have been, is
/// handed over whatever became of the rest.
pub(crate) async fn received(
    cx: &Context,
    args: &OwnerArgs,
    home: &Home,
    outcome: Result<Welcome, ClientError>,
) -> Result<Welcome, CliError> {
    match outcome {
        Ok(welcome) => {
            welcome.client.stop().await;
            if let Some(owner) = &welcome.owner {
                hand_over(cx, args, home, &welcome.profile, owner)?;
            }
            Ok(welcome)
        }
        Err(ClientError::Unsettled {
            cause,
            owner,
            profile,
        }) => {
            hand_over(cx, args, home, &profile, &owner)?;
            let hint = "keep the recovery key: the account may exist already; then run the same command again";
            Err(CliError::from(*cause).hint(hint))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a first policy means.
const MAY_CONVERSE: &str =
    "Peers may converse with your agents: `conclave perm show`, `conclave perm set`.";

fn offer_copy(cx: &Context, home: &Home, server: &Profile, owner: &Owner) -> Result<(), CliError> {
    let question = "Passphrase for a copy on this machine (Enter: none; you will type the recovery key when asked):";
    let passphrase = prompt::secret(cx.out, question)?;
    if !passphrase.is_empty() {
        owner.save(home, &server.id, &passphrase)?;
    }
    Ok(())
}

/// Gets a recovery key on a machine that knows nothing yet: from the file, the person, or a pipe.
pub(crate) fn recovery(cx: &Context, args: &OwnerArgs) -> Result<Owner, CliError> {
    if let Some(owner) = in_file(args)? {
        return Ok(owner);
    }
    let text = if output::interactive() {
        prompt::secret(cx.out, "Recovery key:")?
    } else {
        prompt::piped()?
    };
    Ok(Owner::from_recovery(&text)?)
}

/// Settles a machine that came back by the owner key: the first policy, and a copy if wanted.
pub(crate) fn settle(
    cx: &Context,
    args: &OwnerArgs,
    home: &Home,
    server: &Profile,
    owner: &Owner,
) -> Result<(), CliError> {
    first_policy(home, server, owner)?;
    if args.recovery_key_file.is_none() && output::interactive() {
        offer_copy(cx, home, server, owner)?;
    }
    cx.out.talk(MAY_CONVERSE);
    Ok(())
}

/// Signs the first policy on a machine that another one signed in, if its owner key is given now;
/// returns the level that holds. Whatever goes wrong here, the machine is in: it is said, no more.
pub(crate) fn settle_enrolled(
    cx: &Context,
    given: Option<Owner>,
    home: &Home,
    server: &Profile,
    owners: &[OwnerKey],
) -> Result<Level, CliError> {
    let question = "Recovery key, to let peers converse with agents here (Enter: not now):";
    let mut given = given;
    if given.is_none() && output::interactive() {
        let typed = prompt::secret(cx.out, question)?;
        if !typed.is_empty() {
            match Owner::from_recovery(&typed) {
                Ok(owner) => given = Some(owner),
                Err(error) => cx.out.talk(format_args!("warning: {error}")),
            }
        }
    }
    match given {
        Some(owner) if owners.contains(&owner.secret().owner_key()) => {
            first_policy(home, server, &owner)?;
            cx.out.talk(MAY_CONVERSE);
            return Ok(Level::Converse);
        }
        Some(_) => cx
            .out
            .talk("warning: this is not an owner key of this account"),
        None => {}
    }
    cx.out.talk(
        "Agents on this machine see what peers say and cannot answer: levels are signed with the owner key, which\n\
         is not here. To let them answer: run `conclave perm set converse` and type your recovery key.",
    );
    Ok(Level::Notify)
}

/// Reads the owner key from the file, if one is named.
pub(crate) fn in_file(args: &OwnerArgs) -> Result<Option<Owner>, CliError> {
    let Some(path) = &args.recovery_key_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|e| CliError::local(format!("{}: {e}", path.display())))?;
    Ok(Some(Owner::from_recovery(text.trim())?))
}

/// Returns the owner keys of one's own account.
pub(crate) async fn keys(client: &Client) -> Result<Vec<OwnerKey>, CliError> {
    Ok(client.own_identity().await?.owners().copied().collect())
}

/// Says that an owner key is somebody else's.
pub(crate) fn not_yours() -> CliError {
    CliError::coded(
        &Code::Unauthorized,
        "this is not an owner key of your account",
    )
    .hint("type the recovery key that was shown when the account was made")
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
    if let Some(owner) = in_file(args)? {
        return Ok(owner);
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
