//! A session at a hostile server, in a channel that a peer made: what the tests of lies start from.

use conclave_client::client::{Client, Session};
use conclave_client::event::{Event, Notice, NoticeKind, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::onboard;
use conclave_proto::body::Head;
use conclave_proto::channel_log::{CtlBody, History, Mode, Role, Visibility};
use conclave_proto::entry::{Entry, EntryBody, Envelope, Route};
use conclave_proto::frame::reply::Gap;
use conclave_proto::id::{ChannelId, Instance, LogId};
use conclave_sim::hostile::{Liar, Person, SOON, ctl, env, name};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const CHANNEL: ChannelId = ChannelId::new([7; 16]);
pub(crate) const LOG: LogId = LogId::Channel(CHANNEL);

/// The `ctr`-th thing somebody says in the channel.
pub(crate) fn says(who: &Person, ctr: u64, text: &str) -> Envelope {
    who.clear(CHANNEL, Route::Everyone, ctr, text, |_| {})
}

/// Bob's session at the liar's, in a channel that ada made (1) and added bob to (2).
pub(crate) struct Scene {
    pub(crate) liar: Liar,
    pub(crate) ada: Person,
    pub(crate) eve: Person,
    pub(crate) head: Head,
    pub(crate) bob: Client,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) home: Home,
    _dir: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let liar = Liar::start().await;
        let (ada, eve) = (
            Person::new(liar.id, "ada", 10),
            Person::new(liar.id, "eve", 20),
        );
        for known in [ada.genesis.clone(), eve.genesis.clone()] {
            liar.tell(|script| drop(script.learn(known))).await;
        }
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let origin = liar.origin.parse().unwrap();
        let welcome = onboard::register(&home, &origin, name("bob"), name("box"), "test")
            .await
            .unwrap();
        let account = welcome.client.account().clone();
        welcome.client.stop().await;
        let create = ada.ctl(
            CHANNEL,
            None,
            CtlBody::Create {
                mode: Mode::Signed,
                visibility: Visibility::Private,
                history: History::Full,
                name: Some(name("ops")),
                topic: None,
                limits: None,
            },
        );
        let head = Head {
            n: 0,
            hash: create.hash(),
        };
        let me = account.user_id;
        let log = liar.ask(move |script| script.identity(&me)).await;
        let ident = log.unwrap().head();
        let add = ada.ctl(
            CHANNEL,
            Some(head),
            CtlBody::Add {
                user: me,
                ident,
                role: Role::Member,
            },
        );
        let head = Head {
            n: 1,
            hash: add.hash(),
        };
        let log = vec![ctl(1, &create), ctl(2, &add)];
        liar.tell(|script| *script.channel(CHANNEL) = log).await;
        let (bob, events) = session(&home).await;
        bob.ready(SOON).await.unwrap();
        Self {
            liar,
            ada,
            eve,
            head,
            bob,

            events,
            home,
            _dir: dir,
        }
    }

    /// The same, following the channel.
    pub(crate) async fn following() -> Self {
        let mut scene = Self::new().await;
        scene.bob.follow(CHANNEL).await.unwrap();
        scene.liar.followed().await;
        scene
    }

    /// Pushes what must not be believed at place 3, then a good message at 4; returns what was shown
    /// before the good one, which proves that the session is alive.
    pub(crate) async fn lie(&mut self, entry: EntryBody) -> Vec<Notice> {
        let good = env(4, says(&self.ada, 1, "good"));
        let lie = Entry {
            seq: 3,
            body: entry,
            ..good.clone()
        };
        self.liar.push(LOG, vec![lie, good]).await;
        self.until("good").await
    }

    pub(crate) async fn until(&mut self, text: &str) -> Vec<Notice> {
        let mut notices = Vec::new();
        let wait = async {
            loop {
                match self.events.recv().await.expect("the session goes on") {
                    Event::Message(m) if said(&m) == text => return,
                    Event::Message(m) => panic!("shown: {}", said(&m)),
                    Event::Notice(notice) => notices.push(notice),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, wait)
            .await
            .expect("the good message comes");
        notices
    }
}

pub(crate) async fn session(home: &Home) -> (Client, mpsc::Receiver<Event>) {
    let profile = home.servers().unwrap().pop().unwrap();
    let session = Session {
        handle: name("web"),
        pinned: true,
        instance: Instance::new([2; 16]),
        agent: "test".into(),
    };
    Client::connect(home, &profile, session).await.unwrap()
}

pub(crate) fn said(message: &VerifiedMessage) -> &str {
    message.body.text.as_deref().unwrap_or_default()
}

pub(crate) fn kinds(notices: &[Notice]) -> Vec<NoticeKind> {
    notices.iter().map(|notice| notice.kind).collect()
}

pub(crate) fn gap(from: u64, to: u64) -> Gap {
    Gap {
        from,
        to,
        missing: to - from,
        reason: "x".repeat(1_000),
    }
}
