//! What is held back until a human allows it once: told and released through the session's own socket.
//!
//! The socket is open to every process of this user, also to those of the agent: what counts is the owner key's
//! signature, checked against the account's keys.

use super::Session;
use crate::control::{Answer, Waiting};
use conclave_proto::desk::{Signed, verify_release};
use conclave_proto::id::Hash;
use conclave_proto::key::OwnerKey;
use conclave_proto::reject::Reject;
use tokio::sync::mpsc;

impl Session {
    /// Tells what is held back.
    pub(super) fn tell_holds(&mut self) -> Answer {
        let now = self.now().mono;
        let me = self.homes.iter().find_map(|fabric| fabric.view().path);
        let session = me.map(|path| path.to_string()).unwrap_or_default();
        let holds = self.holds().into_iter().filter(|hold| !hold.allowed);
        let waiting = holds.map(|hold| Waiting {
            id: hold.id,
            digest: hold.digest,
            session: session.clone(),
            place: hold.what.place,
            rule: hold.what.rule,
            excerpt: hold.what.excerpt,
            age_s: now.since(hold.at) / 1000,
        });
        Answer::Holds {
            holds: waiting.collect(),
        }
    }

    /// Releases it, if an owner key of this account says so.
    pub(super) fn release(
        &mut self,
        id: &str,
        digest: Hash,
        signed: &Signed,
        answers: mpsc::Sender<Answer>,
    ) {
        if verify_release(&digest, signed).is_err() {
            return released(&answers, Err("its signature does not fit"));
        }
        let asked: Vec<_> = self.homes.iter().map(|fabric| fabric.own_keys()).collect();
        let (id, key) = (id.to_owned(), signed.key);
        self.then(async move {
            let mut own = false;
            for keys in asked {
                let keys: Result<Vec<OwnerKey>, Reject> = keys.await;
                own |= keys.is_ok_and(|keys| keys.contains(&key));
            }
            move |session: &mut Self| {
                let outcome = match own {
                    false => Err("this is not an owner key of this account"),
                    true if session.allow_hold(&id, &digest) => Ok(()),
                    true => Err("nothing is held under this id any more"),
                };
                if outcome.is_ok() {
                    let text = format!("a human allowed it once: {id}");
                    session.noted(None, "release", &text, None);
                }
                released(&answers, outcome);
            }
        });
    }
}

fn released(answers: &mpsc::Sender<Answer>, outcome: Result<(), &str>) {
    let answer = Answer::Released {
        allowed: outcome.is_ok(),
        why: outcome.err().unwrap_or_default().to_owned(),
    };
    if answers.try_send(answer).is_err() {
        tracing::debug!("who asked has gone");
    }
}
