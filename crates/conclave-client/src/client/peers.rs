//! Who is in a channel, and what each session says of itself there.

use super::Client;
use crate::book::Need;
use crate::book::opened::Opened;
use crate::core::Core;
use crate::core::profiles::Seen;
use crate::error::ClientError;
use crate::event::SenderFacts;
use conclave_proto::channel_log::ChannelLog;
use conclave_proto::entry::Envelope;
use conclave_proto::frame::op::ProfilesOf;
use conclave_proto::frame::reply::{ProfileOf, SessionInfo};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{ChannelId, UserId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::Profile;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

/// The most pages of profiles that one call reads.
const PAGES_MAX: usize = 64;
/// How many keys and identities one call asks for, each once.
const NEEDS_MAX: usize = 64;

/// A session in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whose it is: a member.
    pub user: UserId,
    /// What the server says of it.
    pub session: SessionInfo,
    /// What it says of itself, if it does and that is its own word.
    pub profile: Option<Profile>,
    /// What is known of its user.
    pub facts: SenderFacts,
}

impl Client {
    /// Says what this session is in a channel, from now on and as long as it follows it: again after a
    /// reconnect and under each new key. Does not wait; of several words within a second the newest counts.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if it is beyond its bounds; [`ClientError::Closed`].
    pub async fn set_profile(
        &self,
        channel: ChannelId,
        profile: Profile,
    ) -> Result<(), ClientError> {
        if !profile.fits() {
            let text = "a profile has at most 16 groups and a summary of 512 bytes";
            return Err(Reject::new(Code::TooLarge, text).into());
        }
        self.with(move |core| core.set_profile(channel, profile))
            .await
    }

    /// Lists the sessions of a channel's members with what they say of themselves. What does not verify
    /// counts as not said; a session whose user is no member is left out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self, channel: ChannelId) -> Result<Vec<Peer>, ClientError> {
        let tip = self.tip(channel).await?;
        let sessions = self.who(Some(channel)).await?;
        let said = self.profiles(channel).await?;
        let since: Since = sessions
            .iter()
            .map(|session| (session.path.clone(), session.since))
            .collect();
        let mut profiles = self.believed(&tip, &since, said).await?;
        self.with(move |core| {
            let peers = sessions.into_iter().filter_map(|session| {
                let (user, _) = tip.member_named(&session.path.user)?;
                let facts = core.facts(Some(&channel), user, &session.path);
                let profile = profiles.remove(&session.path);
                Some(Peer {
                    user: *user,
                    session,
                    profile,
                    facts,
                })
            });
            peers.collect()
        })
        .await
    }

    /// Returns the names of a channel's members, there or not. Asks nobody where this machine knows them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn member_names(&self, channel: ChannelId) -> Result<BTreeSet<Name>, ClientError> {
        let names = |tip: &ChannelLog| {
            let members = tip.members().values();
            members.map(|member| member.name.clone()).collect()
        };
        let known = self.with(move |core| core.book.tip(&channel).map(names));
        match known.await? {
            Some(known) => Ok(known),
            None => Ok(names(&self.tip(channel).await?)),
        }
    }

    /// Reads every page of what sessions say of themselves.
    async fn profiles(&self, channel: ChannelId) -> Result<Vec<ProfileOf>, ClientError> {
        let mut all: Vec<ProfileOf> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = all.last().map(|last| last.path.clone());
            let op = Op::Profiles(ProfilesOf {
                channel,
                after: after.clone(),
            });
            let Reply::Profiles(page) = self.request(op).await? else {
                return Err(ClientError::Answer);
            };
            let onward = page.profiles.last().map(|last| &last.path) > after.as_ref();
            all.extend(page.profiles);
            if !page.more || !onward {
                break;
            }
        }
        Ok(all)
    }

    /// Returns what of this is the word of who it is listed under. What is missing to tell is asked for once.
    async fn believed(
        &self,
        tip: &ChannelLog,
        since: &Since,
        said: Vec<ProfileOf>,
    ) -> Result<BTreeMap<SessionPath, Profile>, ClientError> {
        let mut judged = self.judge_profiles(tip, since, said).await?;
        if judged.needs.is_empty() {
            return Ok(judged.believed);
        }
        for need in judged.needs.into_iter().take(NEEDS_MAX) {
            let got = match need {
                Need::Identity(user) => self.learn(user).await.map(drop),
                Need::Key(place) => self.fetch_keys_for(place.channel, Some(place.e)).await,
                Need::User(_) | Need::Own(_) => continue,
            };
            if let Err(error) = got {
                tracing::debug!(%error, "a profile cannot be judged");
            }
        }
        let more = self.judge_profiles(tip, since, judged.open).await?;
        judged.believed.extend(more.believed);
        Ok(judged.believed)
    }

    /// Judges what was said; gives back what needs something first, and what that is.
    async fn judge_profiles(
        &self,
        tip: &ChannelLog,
        since: &Since,
        said: Vec<ProfileOf>,
    ) -> Result<Judged, ClientError> {
        let (tip, since) = (tip.clone(), since.clone());
        self.with(move |core| {
            let envs: Vec<Envelope> = said.iter().map(|of| of.env.clone()).collect();
            let opened = Opened::all(&envs, &core.book.keys);
            let mut judged = Judged::default();
            for (of, opened) in said.into_iter().zip(opened) {
                let came = since.get(&of.path).copied().unwrap_or_default();
                match core.book.judge_profile(&tip, &of.path, &opened) {
                    Ok(profile) if hears(core, &tip, (&of.path, came), &opened) => {
                        judged.believed.insert(of.path, profile);
                    }
                    Err(Some(need)) => {
                        if !judged.needs.contains(&need) {
                            judged.needs.push(need);
                        }
                        judged.open.push(of);
                    }
                    Ok(_) | Err(None) => {
                        tracing::warn!(channel = %tip.id(), "a profile was refused");
                    }
                }
            }
            judged
        })
        .await
    }
}

/// When the sessions of a channel came.
type Since = BTreeMap<SessionPath, UnixMs>;

/// What became of profiles that were judged.
#[derive(Default)]
struct Judged {
    believed: BTreeMap<SessionPath, Profile>,
    /// What is left to judge.
    open: Vec<ProfileOf>,
    /// What that needs.
    needs: Vec<Need>,
}

/// Returns whether a word is not older than what was heard of its session before.
fn hears(
    core: &mut Core,
    tip: &ChannelLog,
    (path, since): (&SessionPath, UnixMs),
    opened: &Opened,
) -> bool {
    let Ok(parsed) = &opened.parsed else {
        return false;
    };
    let header = &parsed.header;
    let seen = Seen {
        sid: *header.sid.as_bytes(),
        ctr: header.ctr,
        ts: header.ts,
        since,
    };
    core.profiles.hear(*tip.id(), path, seen)
}
