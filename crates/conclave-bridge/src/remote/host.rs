//! Which agent session a bridge belongs to, for the hooks that the same agent runs.

use super::Site;
use crate::files;
use conclave_proto::name::SessionPath;

/// By which the host names its session to what it starts.
const HOST_SESSION: &str = "CLAUDE_CODE_SESSION_ID";

impl Site {
    /// Notes under which address this host's session is known here.
    pub(super) fn keep_host(&self, path: &SessionPath) {
        let named = self.known.borrow().host.clone();
        let Some(session_id) = named.or_else(|| std::env::var(HOST_SESSION).ok()) else {
            return;
        };
        let dir = self.files.server_dir(&self.client.server());
        if let Err(error) = files::keep_host(&dir, path, &session_id) {
            tracing::warn!(%error, "the host's session was not noted: hooks do not know this session");
        }
    }

    /// Notes that the host calls its session by another name now.
    pub(super) fn rename_host(&self, session_id: &str) {
        self.known
            .send_modify(|known| known.host = Some(session_id.to_owned()));
        let path = self.known.borrow().view.path.clone();
        if let Some(path) = path {
            self.keep_host(&path);
        }
    }

    /// Takes the note back.
    pub(super) fn forget_host(&self) {
        if let Some(path) = self.known.borrow().view.path.as_ref() {
            let dir = self.files.server_dir(&self.client.server());
            files::forget_host(&dir, path);
        }
    }
}
