//! Comparing numbers: who a name stands for, and whether members see the same channel (SECURITY 2.10).
//!
//! Numbers are made here and compared by people. Only a person's word marks a name as verified or
//! replaces a pin: nothing in this crate calls [`Client::mark_verified`] or [`Client::accept_pin`].

use super::Client;
use crate::book::NamePin;
use crate::error::ClientError;
use conclave_e2ee::number;
use conclave_proto::body::Head;
use conclave_proto::frame::op::FindName;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, ServerId, UserId};
use conclave_proto::name::Name;
use conclave_proto::reject::Code;

/// What two people compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safety {
    /// The other one's name.
    pub name: Name,
    /// Who it is pinned to.
    pub user: UserId,
    /// The digits of that user: 30 in six groups.
    pub fingerprint: String,
    /// The digits of this session's user.
    pub own_fingerprint: String,
    /// Both, in the order that both people see: 60 digits.
    pub number: String,
    /// A person compared them before.
    pub verified: bool,
    /// The server says now that the name is somebody else's.
    pub presented: Option<UserId>,
}

impl Safety {
    /// Returns whether somebody typed the digits of the number; spaces and line breaks do not count.
    #[must_use]
    pub fn is_number(&self, typed: &str) -> bool {
        let digits = |text: &str| text.split_whitespace().collect::<String>();
        digits(typed) == digits(&self.number)
    }
}

/// What members of a channel compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticator {
    /// 45 digits over the newest control record.
    pub digits: String,
    /// That record: who compares must have the same number of it.
    pub head: Head,
}

/// Returns the digits of a user: 30 in six groups.
#[must_use]
pub fn fingerprint(server: &ServerId, user: &UserId) -> String {
    number::fingerprint(server, user)
}

impl Client {
    /// Returns the digits of this session's user.
    #[must_use]
    pub fn own_fingerprint(&self) -> String {
        fingerprint(&self.info.server, &self.info.account.user_id)
    }

    /// Returns what to compare with the person of a name. Pins the name if it is new, and asks the
    /// server in any case who the name stands for now.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Answer`] if the identity has another name.
    pub async fn safety(&self, name: &Name) -> Result<Safety, ClientError> {
        let presented = match self.user_named(name).await {
            Ok(user) => Some(user),
            // A name that was pinned stays comparable when its account is gone.
            Err(ClientError::Reject(reject)) if reject.code == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let pin = match presented {
            Some(user) => {
                self.pin(name.clone(), user).await?;
                self.pinned(name).await?
            }
            None => self.pinned(name).await?,
        };
        let pin = pin.ok_or_else(|| ClientError::NotFound {
            what: "user",
            name: name.to_string(),
        })?;
        let presented = presented.filter(|user| *user != pin.user);
        // Whom nobody shows any more cannot be asked for, and an alarm needs no identity.
        if presented.is_none() {
            if self.name_of(pin.user).await?.is_none() {
                self.learn(pin.user).await?;
            }
            self.check_name(pin.user, name).await?;
        }
        let (server, me) = (&self.info.server, &self.info.account.user_id);
        Ok(Safety {
            name: name.clone(),
            user: pin.user,
            fingerprint: number::fingerprint(server, &pin.user),
            own_fingerprint: self.own_fingerprint(),
            number: number::safety_number(server, me, &pin.user),
            verified: pin.verified,
            presented,
        })
    }

    /// Notes that a person compared the numbers and they were the same. Ends an alarm about the name,
    /// too: it is about others who came under it, and they did not get it.
    ///
    /// # Errors
    /// [`ClientError::PinChanged`] if the name was pinned to somebody else meanwhile.
    pub async fn mark_verified(&self, name: &Name, user: UserId) -> Result<(), ClientError> {
        if !self.replica().set_verified(name.clone(), user).await? {
            let pinned = self.pinned(name).await?;
            return Err(ClientError::PinChanged {
                what: "user",
                name: name.to_string(),
                pinned: pinned.map_or_else(|| "nobody".to_owned(), |pin| pin.user.to_string()),
                presented: user.to_string(),
            });
        }
        self.set_pin(name, user, true).await
    }

    /// Takes the mark back: a person compared the numbers and they were not the same.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unmark_verified(&self, name: &Name) -> Result<(), ClientError> {
        self.replica().unset_verified(name.clone()).await?;
        self.reread_pins().await
    }

    /// Pins a name to another user because a person said so; it is not verified.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Answer`] if the user's identity has another name.
    pub async fn accept_pin(&self, name: &Name, user: UserId) -> Result<(), ClientError> {
        self.learn(user).await?;
        self.check_name(user, name).await?;
        self.replica().replace_pin(name.clone(), user).await?;
        self.set_pin(name, user, false).await
    }

    /// Returns whom this machine knows by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pinned_users(&self) -> Result<Vec<(Name, UserId)>, ClientError> {
        let names = self.replica().names().await?.into_iter();
        Ok(names.map(|(name, user, ..)| (name, user)).collect())
    }

    /// Reads pins again that another process of this machine changed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reread_pins(&self) -> Result<(), ClientError> {
        let names = self.replica().names().await?;
        self.with(move |core| {
            for (name, user, verified, changed) in names {
                core.book.pin(
                    name,
                    NamePin {
                        user,
                        verified,
                        changed,
                    },
                );
            }
        })
        .await
    }

    /// Returns what members of a channel compare, read anew from the server and verified.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn authenticator(&self, channel: ChannelId) -> Result<Authenticator, ClientError> {
        let head = self.tip(channel).await?.head();
        Ok(Authenticator {
            digits: number::authenticator(&channel, &head),
            head,
        })
    }

    pub(crate) async fn user_named(&self, name: &Name) -> Result<UserId, ClientError> {
        let op = Op::FindUser(FindName { name: name.clone() });
        match self.request(op).await? {
            Reply::User(info) if info.name == *name => Ok(info.user_id),
            _ => Err(ClientError::Answer),
        }
    }

    /// A user's name stands in its identity: a server cannot give a user another one.
    pub(crate) async fn check_name(&self, user: UserId, name: &Name) -> Result<(), ClientError> {
        match self.name_of(user).await? {
            Some(own) if own == *name => Ok(()),
            _ => Err(ClientError::Answer),
        }
    }

    pub(crate) async fn pinned(&self, name: &Name) -> Result<Option<NamePin>, ClientError> {
        let name = name.clone();
        self.with(move |core| core.book.pinned(&name)).await
    }

    async fn set_pin(&self, name: &Name, user: UserId, verified: bool) -> Result<(), ClientError> {
        let name = name.clone();
        self.with(move |core| {
            let changed = false;
            core.book.pin(
                name,
                NamePin {
                    user,
                    verified,
                    changed,
                },
            );
        })
        .await
    }
}
