//! Whether a profile is the word of the session it is listed under. Pure.

use super::opened::{Content, Opened};
use super::{Book, Need};
use conclave_e2ee::Place;
use conclave_proto::channel_log::{ChannelLog, Mode};
use conclave_proto::entry::{Route, Suite};
use conclave_proto::name::SessionPath;
use conclave_proto::profile::Profile;

impl Book {
    /// Judges what a session says of itself in a channel: by a member's machine, sealed like a message of
    /// any epoch so far. An older key is no lie: it was said before the newest one came.
    ///
    /// # Errors
    /// What is needed first, if anything helps.
    pub fn judge_profile(
        &self,
        channel: &ChannelLog,
        path: &SessionPath,
        opened: &Opened,
    ) -> Result<Profile, Option<Need>> {
        let header = &opened.parsed.as_ref().map_err(|_| None)?.header;
        let suite = match channel.mode() {
            Mode::Signed => Suite::Clear,
            Mode::E2e => Suite::One,
        };
        let belongs = header.sender == *path
            && header.channel == *channel.id()
            && header.route == Route::Profile
            && header.suite == suite;
        let named = channel.member_named(&path.user);
        let Some((user, member)) = named.filter(|_| belongs) else {
            return Err(None);
        };
        let n = member.ident.n;
        let need = Some(Need::Identity(*user));
        let identity = self.identities.get(user).filter(|log| log.head().n >= n);
        let identity = identity.ok_or(need)?;
        let fits = identity.machine(&header.sender_key).is_some()
            && identity
                .machine_at(n, &header.sender_key)
                .is_some_and(|machine| machine.name == path.machine);
        match &opened.content {
            Content::Body(body) if fits => body.profile.clone().ok_or(None),
            Content::NoKey if fits => Err(Some(Need::Key(Place {
                channel: header.channel,
                e: header.epoch,
            }))),
            _ => Err(None),
        }
    }
}
