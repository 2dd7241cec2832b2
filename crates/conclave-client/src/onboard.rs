//! The first contact with a server: who it is, and an account or a place in one there.
//!
//! A genesis record names the server's id, so the server is asked who it is first, by a handshake that
//! stops before anything is signed. Keys are on disk before the server hears of them.

mod recovery;

pub use recovery::recover;

use crate::account::NewAccount;
use crate::client::{Channel, Client, Session, random};
use crate::dial::Proxies;
use crate::error::ClientError;
use crate::event::{Event, Status};
use crate::home::{Account, Home, Profile};
use crate::keystore::MachineKeys;
use crate::link::{Driver, wall};
use crate::origin::Origin;
use crate::owner::Owner;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::ShowInvite;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::handshake::{Mode, enrolment_message, redeem_message};
use conclave_proto::id::{Instance, UserId};
use conclave_proto::invite::{Link, LinkKind};
use conclave_proto::key::Secret;
use conclave_proto::limit::ENROLMENT_MS;
use conclave_proto::link::{LinkConfig, Output, Pin};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a first contact may take.
const CONTACT: Duration = Duration::from_secs(20);

/// A session that onboarding opened.
#[derive(Debug)]
pub struct Welcome {
    /// The session, a one-shot; live.
    pub client: Client,
    /// Its events.
    pub events: mpsc::Receiver<Event>,
    /// What was kept of the server.
    pub profile: Profile,
    /// The owner key of an account that was just made. It is nowhere else: show it or seal it.
    pub owner: Option<Owner>,
    /// The channel the link led into.
    pub channel: Option<Channel>,
}

/// Asks a server who it is, and lets it prove that.
///
/// # Errors
/// [`ClientError::Down`] or [`ClientError::Dial`].
pub async fn probe(origin: &Origin, pin: Pin) -> Result<Profile, ClientError> {
    let session = Session::one_shot("")?;
    let config = LinkConfig {
        secret: Arc::new(Secret::from_seed(&random()?)),
        pin,
        handle: session.handle,
        pinned: false,
        instance: Instance::new(random()?),
        agent: String::new(),
        encoding: Encoding::Cbor,
        mode: Mode::Auth,
        seed: 0,
    };
    let mut driver = Driver::new(config, origin.clone(), Proxies::from_env());
    let answer = async {
        loop {
            match driver.next().await {
                Output::FirstContact { server_id, key } => {
                    let urls = vec![origin.to_string()];
                    return Ok(Profile {
                        id: server_id,
                        key,
                        urls,
                        user: None,
                    });
                }
                Output::Down { reason, .. } => return Err(ClientError::Down(reason)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(CONTACT, answer)
        .await
        .unwrap_or_else(|_| Err(Reject::new(Code::Offline, "the server does not answer").into()))
}

/// Makes an account on a server with open registration.
///
/// # Errors
/// [`ClientError`]; `registration_closed`, `name_taken`.
pub async fn register(
    home: &Home,
    origin: &Origin,
    username: Name,
    machine: Name,
    agent: &str,
) -> Result<Welcome, ClientError> {
    let found = meet(home, origin, Pin::FirstContact).await?;
    let known = home.server(&found.id)?.and_then(|known| known.user);
    if known.is_some_and(|account| account.unsettled)
        && let Some(welcome) = resume(home, &found, agent).await?
    {
        return Ok(welcome);
    }
    make_account(home, found, username, machine, agent, |_, _, genesis| {
        Mode::Register { genesis }
    })
    .await
}

/// Follows an invite: makes the account if this machine has none there, and joins the channel.
///
/// # Errors
/// [`ClientError`]; `invite_invalid`, `name_taken`.
pub async fn redeem(
    home: &Home,
    link: &Link,
    username: Name,
    machine: Name,
    agent: &str,
) -> Result<Welcome, ClientError> {
    if let LinkKind::Machine(..) = link.kind {
        return Err(ClientError::LinkKind);
    }
    let origin: Origin = link.origin.parse()?;
    let found = probe(&origin, Pin::Fingerprint(link.fingerprint.clone())).await?;
    let mut welcome = match resume(home, &found, agent).await? {
        Some(welcome) => welcome,
        None => {
            let invite = link.secret.signing_key();
            make_account(
                home,
                found,
                username,
                machine,
                agent,
                move |server, user, genesis| {
                    let key = invite.invite_key();
                    let sig = invite.sign(redeem_message(server, &key, user));
                    Mode::Redeem {
                        invite: key,
                        sig,
                        genesis,
                    }
                },
            )
            .await?
        }
    };
    if link.kind != LinkKind::Bootstrap {
        match enter(&welcome.client, link).await {
            Ok(channel) => welcome.channel = channel,
            Err(cause) => {
                welcome.client.stop().await;
                return Err(unsettled(cause, welcome.owner, welcome.profile));
            }
        }
    }
    Ok(welcome)
}

/// Opens a session of the account that this machine has on a server. One that the server was only
/// asked for may never have been made: then it is forgotten. A settled one never is.
async fn resume(home: &Home, found: &Profile, agent: &str) -> Result<Option<Welcome>, ClientError> {
    let Some(mut profile) = home.server(&found.id)?.filter(|known| known.user.is_some()) else {
        return Ok(None);
    };
    let (client, events) = Client::connect(home, &profile, Session::one_shot(agent)?).await?;
    let ready = client.ready(CONTACT).await;
    let was_unsettled = profile
        .user
        .as_mut()
        .is_some_and(|account| std::mem::take(&mut account.unsettled));
    match ready {
        Ok(_) => {
            if was_unsettled {
                home.save(&profile)?;
            }
            Ok(Some(Welcome {
                client,
                events,
                profile,
                owner: None,
                channel: None,
            }))
        }
        Err(error) => {
            client.stop().await;
            if !was_unsettled || error.code() != Code::UnknownKey {
                return Err(error);
            }
            profile.user = None;
            home.save(&profile)?;
            Ok(None)
        }
    }
}

/// Keeps the owner key of an account that was just made together with what failed after that.
fn unsettled(cause: ClientError, owner: Option<Owner>, profile: Profile) -> ClientError {
    match owner {
        None => cause,
        Some(owner) => ClientError::Unsettled {
            cause: Box::new(cause),
            owner: Box::new(owner),
            profile: Box::new(profile),
        },
    }
}

/// Returns whether this machine has an account on the server a link leads to.
///
/// # Errors
/// [`ClientError`].
pub fn is_known(home: &Home, link: &Link) -> Result<bool, ClientError> {
    let fits = |p: &Profile| p.key.fingerprint() == link.fingerprint && p.user.is_some();
    Ok(home.servers()?.iter().any(fits))
}

async fn enter(client: &Client, link: &Link) -> Result<Option<Channel>, ClientError> {
    let reply = client
        .request(Op::Invite(ShowInvite { invite: link.id() }))
        .await?;
    let Reply::Invite(info) = reply else {
        return Err(ClientError::Answer);
    };
    let Some(channel) = info.channel else {
        return Ok(None);
    };
    let sealed = info.invite_box.as_ref();
    let joined = client
        .join_by(channel.channel, link, sealed, info.ctl)
        .await?;
    Ok(Some(joined))
}

/// Becomes another machine of the account a link is for; returns when its owner has signed it in.
///
/// # Errors
/// [`ClientError`]; `timeout` when nobody signs within ten minutes.
pub async fn enrol(
    home: &Home,
    link: &Link,
    machine: Name,
    agent: &str,
) -> Result<Welcome, ClientError> {
    let LinkKind::Machine(enrolment, user_id) = link.kind else {
        return Err(ClientError::LinkKind);
    };
    let origin: Origin = link.origin.parse()?;
    let mut profile = probe(&origin, Pin::Fingerprint(link.fingerprint.clone())).await?;
    if home
        .server(&profile.id)?
        .is_some_and(|known| known.user.is_some())
    {
        let text = "this machine has an account on that server already";
        return Err(Reject::new(Code::NameTaken, text).into());
    }
    let keys = keys(home, &profile)?;
    let (key, ek) = (keys.signing.machine_key(), keys.encryption_key());
    let message = || enrolment_message(&user_id, &machine, &key, &ek);
    let mode = Mode::Enrol {
        enrolment,
        name: machine.clone(),
        encryption_key: ek,
        consent: keys.signing.sign(message()),
        proof: link.secret.signing_key().sign(message()),
    };
    // The user's name comes with `ready`; until then the account is known by its id alone.
    let account = Account {
        user: machine.clone(),
        user_id,
        machine: machine.clone(),
        unsettled: false,
    };
    let session = Session::one_shot(agent)?;
    let (client, _events) = Client::start(home, &profile, account, &keys, session, mode).await?;
    let ready = client.ready(Duration::from_millis(ENROLMENT_MS)).await?;
    client.stop().await;
    if ready.user_id != user_id {
        return Err(ClientError::Answer);
    }
    profile.user = Some(Account {
        user: ready.path.user.clone(),
        user_id,
        machine,
        unsettled: false,
    });
    home.save(&profile)?;
    let (client, events) = Client::connect(home, &profile, Session::one_shot(agent)?).await?;
    client.ready(CONTACT).await?;
    Ok(Welcome {
        client,
        events,
        profile,
        owner: None,
        channel: None,
    })
}

async fn make_account(
    home: &Home,
    mut profile: Profile,
    username: Name,
    machine: Name,
    agent: &str,
    mode: impl FnOnce(&conclave_proto::id::ServerId, &UserId, conclave_proto::id::Blob) -> Mode,
) -> Result<Welcome, ClientError> {
    if home
        .server(&profile.id)?
        .is_some_and(|known| known.user.is_some())
    {
        let text = "this machine has an account on that server already";
        return Err(Reject::new(Code::NameTaken, text).into());
    }
    let keys = keys(home, &profile)?;
    let owner = Owner::create()?;
    let made = NewAccount::make(
        &profile.id,
        username.clone(),
        machine.clone(),
        &keys,
        &owner,
        wall(),
    );
    let account = Account {
        user: username,
        user_id: made.user_id,
        machine,
        unsettled: true,
    };
    let mode = mode(&profile.id, &made.user_id, made.genesis.bytes().clone());
    // Kept before the server hears of it: a crash right after must not lose the account.
    profile.user = Some(account.clone());
    home.save(&profile)?;
    let session = Session::one_shot(agent)?;
    let (client, events) = Client::start(home, &profile, account, &keys, session, mode).await?;
    if let Err(error) = client.ready(CONTACT).await {
        let refused = matches!(
            client.status(),
            Status::Down {
                retry_in_ms: None,
                ..
            }
        );
        client.stop().await;
        if !refused {
            // The server may have made the account and not said so.
            return Err(unsettled(error, Some(owner), profile));
        }
        home.save(&Profile {
            user: None,
            ..profile
        })?;
        return Err(error);
    }
    if let Some(account) = &mut profile.user {
        account.unsettled = false;
    }
    home.save(&profile)?;
    if let Err(error) = client.announce_owner(&owner).await {
        // Only old messages depend on it, and only after every machine is lost.
        tracing::warn!(%error, "channel keys are not sealed to the owner key yet");
    }
    Ok(Welcome {
        client,
        events,
        profile,
        owner: Some(owner),
        channel: None,
    })
}

fn keys(home: &Home, profile: &Profile) -> Result<MachineKeys, ClientError> {
    Ok(match MachineKeys::load(home, &profile.id)? {
        Some(keys) => keys,
        None => MachineKeys::create(home, &profile.id)?,
    })
}

/// Returns who a server is: as it is pinned under this origin, unless another pin is to be met. What
/// is pinned is not asked again here, for the handshake that follows proves it.
async fn meet(home: &Home, origin: &Origin, pin: Pin) -> Result<Profile, ClientError> {
    let url = origin.to_string();
    let mut known = home.servers()?.into_iter();
    match known.find(|profile| profile.urls.contains(&url)) {
        Some(known) if pin == Pin::FirstContact => Ok(known),
        _ => probe(origin, pin).await,
    }
}
