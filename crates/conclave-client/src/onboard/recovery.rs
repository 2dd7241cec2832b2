//! The way back with the owner key alone, when every machine of an account is lost.

use super::{CONTACT, Welcome, keys, meet};
use crate::client::{Client, Session};
use crate::error::ClientError;
use crate::home::{Account, Home, Profile};
use crate::keystore::MachineKeys;
use crate::link::wall;
use crate::origin::Origin;
use crate::owner::Owner;
use conclave_proto::frame::op::IdentFetch;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::handshake::{Mode, recover_message};
use conclave_proto::id::UserId;
use conclave_proto::identity_log::{Cap, IdentityLog, MachineClaim, build};
use conclave_proto::link::Pin;
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};

/// Comes back into an account whose machines are all lost, with its owner key: this machine becomes
/// its newest one, and every channel of the account hears of it. With [`Pin::FirstContact`] the pin
/// of this origin counts, if there is one.
///
/// # Errors
/// [`ClientError`]; `unauthorized` if the key is not an owner key of an account of that name,
/// `name_taken` if the account has a machine of that name: choose another.
pub async fn recover(
    home: &Home,
    origin: &Origin,
    pin: Pin,
    username: Name,
    machine: Name,
    owner: Owner,
    agent: &str,
) -> Result<Welcome, ClientError> {
    let mut profile = meet(home, origin, pin).await?;
    if home.server(&profile.id)?.is_some_and(|p| p.user.is_some()) {
        let text = "this machine has an account on that server already";
        return Err(Reject::new(Code::NameTaken, text).into());
    }
    let keys = keys(home, &profile)?;
    let key = keys.signing.machine_key();
    let message = recover_message(&profile.id, &key, &username, &machine);
    let mode = Mode::Recover {
        username: username.clone(),
        machine: machine.clone(),
        owner: owner.secret().owner_key(),
        sig: owner.secret().sign(message),
    };
    // Who the user is comes with `ready`, and is believed when the identity log proves it.
    let mut account = Account {
        user: username,
        user_id: UserId::new([0; 32]),
        machine,
        unsettled: false,
    };
    let session = Session::one_shot(agent)?;
    let (client, _events) =
        Client::start(home, &profile, account.clone(), &keys, session, mode).await?;
    let enrolled = enrol_self(&client, &profile, &account, &keys, &owner).await;
    client.stop().await;
    account.user_id = enrolled?;
    profile.user = Some(account);
    home.save(&profile)?;
    let (client, events) = Client::connect(home, &profile, Session::one_shot(agent)?).await?;
    client.ready(CONTACT).await?;
    // The account is back; what a channel refuses must not undo that.
    if let Err(error) = client.spread_identity().await {
        tracing::warn!(%error, "not every channel heard of the new machine");
    }
    if let Err(error) = client.recover_keys(&owner).await {
        tracing::warn!(%error, "not every channel's key came back");
    }
    Ok(Welcome {
        client,
        events,
        profile,
        owner: None,
        channel: None,
    })
}

/// Verifies the account's identity log and appends this machine to it, unless it is there already.
async fn enrol_self(
    client: &Client,
    profile: &Profile,
    account: &Account,
    keys: &MachineKeys,
    owner: &Owner,
) -> Result<UserId, ClientError> {
    let user = client.ready(CONTACT).await?.user_id;
    let mut log: Option<IdentityLog> = None;
    loop {
        let from = log.as_ref().map_or(0, |log| log.head().n + 1);
        let op = Op::IdentFetch(IdentFetch { user, from });
        let Reply::Idents(page) = client.request(op).await? else {
            return Err(ClientError::Answer);
        };
        let last = page.records.is_empty();
        for rec in page.records {
            match &mut log {
                Some(log) => drop(log.append(&rec)?),
                None => log = Some(IdentityLog::genesis(&rec, &profile.id)?),
            }
        }
        if last {
            break;
        }
    }
    let log = log.ok_or(ClientError::Answer)?;
    if *log.user_id() != user || *log.username() != account.user {
        return Err(ClientError::Answer);
    }
    if !log.is_owner(&owner.secret().owner_key()) {
        return Err(ClientError::OwnerKey);
    }
    let key = keys.signing.machine_key();
    if log.machine(&key).is_some_and(|m| m.name == account.machine) {
        return Ok(user);
    }
    let name = &account.machine;
    if log.machine_named(name).is_some() {
        let text =
            format!("the account has a machine named {name}; choose another name for this one");
        return Err(Reject::new(Code::NameTaken, text).into());
    }
    let ek = keys.encryption_key();
    let claim = MachineClaim::enrol(&user, name.clone(), ek, &keys.signing);
    let rec = build::add_machine(&log, claim, Cap::default_set(), owner.secret(), wall());
    client.append_identity(&rec).await?;
    Ok(user)
}
