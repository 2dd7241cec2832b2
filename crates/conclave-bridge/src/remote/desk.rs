//! The permission desk over the client.

use super::{Remote, Site};
use crate::desk::Given;
use crate::fabric::{Desk, Event, Later, Reach};
use crate::state::{HomeId, Message, Place};
use crate::trust::Sender;
use conclave_client::client::desk::{Paper, Says};
use conclave_client::error::ClientError;
use conclave_proto::body::Priority;
use conclave_proto::desk::{Request, Verdict};
use conclave_proto::id::UserId;
use conclave_proto::key::OwnerKey;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeSet;
use tokio::sync::mpsc;

impl Desk for Remote {
    fn desks(&self, users: BTreeSet<UserId>) -> Later<Reach> {
        self.later(move |site| async move {
            let offline = || Reject::new(Code::Offline, "there is no connection");
            let ready = site.client.live().ok_or_else(offline)?;
            let mut desks = Vec::new();
            for user in users {
                desks.extend(site.client.desks_of(user).await?);
            }
            Ok(Reach {
                now: site.client.server_time().await?,
                me: ready.path.clone(),
                desks,
            })
        })
    }

    fn ask_desks(&self, request: Request, to: Vec<SessionPath>) -> Later<usize> {
        self.later(move |site| async move { site.client.ask_desks(&request, &to).await })
    }

    fn give_verdict(&self, to: SessionPath, verdict: Verdict) -> Later<()> {
        self.later(move |site| async move { site.client.give_verdict(&to, verdict).await })
    }

    fn own_keys(&self) -> Later<Vec<OwnerKey>> {
        let me = self.site.client.account().user_id;
        self.later(move |site| async move { site.client.owners_of(me).await })
    }
}

impl Site {
    /// Tells the session of a request or verdict, when it is known who that is from. Beside the stream of
    /// events, which waits for nobody.
    pub(super) fn hear_paper(&self, paper: Paper, sender: mpsc::Sender<(HomeId, Event)>) {
        let site = self.clone();
        tokio::spawn(async move {
            let home = site.home;
            match site.paper(paper).await {
                // The session has ended if nobody takes it.
                Ok(event) => sender.send((home, event)).await.unwrap_or_default(),
                Err(error) => tracing::warn!(%error, "a request or verdict was not read"),
            }
        });
    }

    async fn paper(&self, paper: Paper) -> Result<Event, ClientError> {
        if paper.key_changed {
            let text = format!("{} is another user than before", paper.from.user);
            return Err(Reject::new(Code::Unauthorized, text).into());
        }
        match paper.says.clone() {
            Says::Verdict(verdict) => Ok(Event::Verdict(Box::new(Given {
                home: self.home,
                owners: self.client.owners_of(paper.user).await?,
                from: paper.from,
                user: paper.user,
                at: paper.at,
                verdict,
            }))),
            Says::Request(request) => {
                let message = self.request_message(&paper, &request);
                Ok(Event::Requested(Box::new(message), Box::new(request)))
            }
        }
    }

    /// Puts a request as an agent that may decide it gets it: all of it in the frame, for all of it is a
    /// peer's.
    fn request_message(&self, paper: &Paper, request: &Request) -> Message {
        let rest = if request.truncated { " (cut)" } else { "" };
        let text = format!(
            "permission request {}\ntool: {}\ndescription: {}\narguments{rest}: {}",
            request.nonce, request.tool, request.description, request.preview
        );
        Message {
            home: self.home,
            log: paper.log,
            seq: paper.seq,
            id: paper.id,
            at: paper.at,
            from: paper.from.clone(),
            sender: Sender {
                user: paper.user,
                own: paper.user == self.client.account().user_id,
                key_changed: false,
                member_ms: None,
                vouched: false,
            },
            place: Place::Whisper,
            text,
            reply_to: None,
            question: None,
            to: Vec::new(),
            priority: Priority::Now,
            mentions: Vec::new(),
            expects_reply: false,
            root: None,
            hop: 0,
            human: false,
        }
    }
}
