//! A session at a hostile server, in a channel that a peer made: what the tests of lies start from.

use conclave_client::client::{Client, NewChannel, Session, Target};
use conclave_client::event::{Event, Notice, NoticeKind, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::onboard;
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, History, Mode, Role, Visibility};
use conclave_proto::entry::{Entry, EntryBody, Envelope, Route};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{EntryPage, Gap, Reply};
use conclave_proto::id::{ChannelId, Instance, LogId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::record::Record;
use conclave_sim::hostile::{Liar, Person, SOON, Script, ctl, env, name};
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
        let me = welcome.client.account().user_id;
        welcome.client.stop().await;
        let mine = liar.ask(move |script| script.identity(&me)).await.unwrap();
        let create = creates(&ada, CHANNEL, Mode::Signed);
        let add = adds(&ada, CHANNEL, head(0, &create), &mine, Role::Member);
        let head = head(1, &add);
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

    /// Returns bob's identity, as the server has it.
    pub(crate) async fn mine(&self) -> IdentityLog {
        let me = self.bob.account().user_id;
        let found = self.liar.ask(move |script| script.identity(&me)).await;
        found.unwrap()
    }

    /// Shows these entries to who reads the past, from now on.
    pub(crate) async fn shows_past(&self, entries: Vec<Entry>) {
        let lie = move |script: &mut Script| {
            script.lie(move |asked| match asked.op {
                Op::Read(_) => Some(page(entries.clone())),
                _ => None,
            });
        };
        self.liar.tell(lie).await;
    }

    /// Waits for a notice of a kind; nothing may be shown before it.
    pub(crate) async fn refused(&mut self, kind: NoticeKind) {
        let wait = async {
            loop {
                match self.events.recv().await.expect("the session goes on") {
                    Event::Message(m) => panic!("shown: {}", said(&m)),
                    Event::Notice(notice) if notice.kind == kind => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, wait)
            .await
            .expect("a notice comes");
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

/// The first record of a channel that somebody makes.
pub(crate) fn creates(by: &Person, channel: ChannelId, mode: Mode) -> Record {
    let body = CtlBody::Create {
        mode,
        visibility: Visibility::Private,
        history: History::Full,
        name: (mode == Mode::Signed).then(|| name("ops")),
        topic: None,
        limits: None,
    };
    by.ctl(channel, None, body)
}

/// The record after `after` by which somebody adds a member.
pub(crate) fn adds(
    by: &Person,
    channel: ChannelId,
    after: Head,
    who: &IdentityLog,
    role: Role,
) -> Record {
    let (user, ident) = (*who.user_id(), who.head());
    by.ctl(channel, Some(after), CtlBody::Add { user, ident, role })
}

pub(crate) fn head(n: u64, rec: &Record) -> Head {
    let hash = rec.hash();
    Head { n, hash }
}

/// A page that shows all there is.
pub(crate) fn page(entries: Vec<Entry>) -> Outcome {
    let head = entries.last().map_or(0, |entry| entry.seq);
    Outcome::Ok(Reply::Page(EntryPage {
        entries,
        gap: None,
        next: head,
        head,
    }))
}

/// Says something in a channel; returns its place, if the server has it.
pub(crate) async fn say(client: &Client, channel: ChannelId, text: &str) -> Option<u64> {
    let body = Body::text(text);
    let sent = client.send(Target::Channel(channel), &body, 0, false).await;
    sent.unwrap().stored.map(|(seq, _)| seq)
}

/// The next message.
pub(crate) async fn heard(events: &mut mpsc::Receiver<Event>) -> VerifiedMessage {
    let next = async {
        loop {
            if let Event::Message(m) = events.recv().await.expect("the session lives") {
                return *m;
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("a message comes")
}

pub(crate) async fn noticed(events: &mut mpsc::Receiver<Event>, kind: NoticeKind) {
    let next = async {
        loop {
            match events.recv().await.expect("the session lives") {
                Event::Notice(notice) if notice.kind == kind => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("a notice comes");
}

pub(crate) fn texts(found: &[VerifiedMessage]) -> Vec<&str> {
    found
        .iter()
        .filter_map(|m| m.body.text.as_deref())
        .collect()
}

pub(crate) fn since_join(text: &str) -> NewChannel {
    NewChannel {
        history: History::SinceJoin,
        ..NewChannel::new(name(text), Visibility::Private)
    }
}
