//! Where attacks happen: a hostile server, a real victim on it, and peers whose keys the test holds.

use conclave_client::client::{Client, Session, Target};
use conclave_client::event::{Event, Notice, NoticeKind, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::onboard;
use conclave_e2ee::{Place, wrap};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlChange, History, Mode, ParsedCtl, Role};
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Suite};
use conclave_proto::frame::event::{EpochOf, Event as Told};
use conclave_proto::frame::op::{Op, Wrap};
use conclave_proto::frame::reply::{Idents, Reply};
use conclave_proto::frame::{Outcome, ServerFrame};
use conclave_proto::id::{ChannelId, Instance, LogId, UserId};
use conclave_proto::key::HolderKey;
use conclave_proto::record::Record;
use conclave_sim::hostile::{Liar, Person, Room, SOON, Script, Settings, env, name};
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// What the server must never hear: bodies, names and topics all have it in them.
pub(crate) const CANARY: &str = "canary";

pub(crate) const SEALED: Settings<'static> = Settings {
    mode: Mode::E2e,
    history: History::Full,
    name: "canary-name",
    topic: Some("canary topic"),
};

/// A victim: a real client, its events and its home.
pub(crate) struct Victim {
    pub(crate) client: Client,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) home: Home,
    pub(crate) me: UserId,
    /// What was noticed and not looked at yet.
    pub(crate) notices: Vec<Notice>,
    _dir: TempDir,
}

/// The scene of most attacks: bob, the victim, follows a room that ada made; carol is a member, eve is
/// nobody.
pub(crate) struct Stage {
    pub(crate) liar: Liar,
    pub(crate) ada: Person,
    pub(crate) carol: Person,
    pub(crate) eve: Person,
    pub(crate) room: Room,
    pub(crate) bob: Victim,
}

impl Victim {
    /// Makes an account on the server and opens a session of it.
    pub(crate) async fn new(liar: &Liar, user: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let origin = liar.origin.parse().unwrap();
        let welcome = onboard::register(&home, &origin, name(user), name("box"), "test")
            .await
            .unwrap();
        let me = welcome.client.account().user_id;
        welcome.client.stop().await;
        let (client, events) = connect(&home).await;
        Self {
            client,
            events,
            home,
            me,
            notices: Vec::new(),
            _dir: dir,
        }
    }

    /// Ends the session and opens another one of the same machine.
    pub(crate) async fn restart(&mut self) {
        self.client.stop().await;
        (self.client, self.events) = connect(&self.home).await;
    }

    pub(crate) async fn follow(&mut self, channel: ChannelId) {
        self.client.follow(channel).await.unwrap();
    }

    /// Waits for the next event that `pick` wants. A message that is not wanted was shown although it must
    /// not be; notices are kept.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the session goes on");
                if let Event::Notice(notice) = &event {
                    self.notices.push(notice.clone());
                }
                if let Some(found) = pick(&event) {
                    return found;
                }
                if let Event::Message(m) = &event {
                    panic!("ATTACK SUCCEEDED, shown: {}", said(m));
                }
            }
        };
        let came = tokio::time::timeout(SOON, wait).await;
        came.unwrap_or_else(|_| panic!("HANGS: {what} does not come; {:?}", self.kinds()))
    }

    /// Waits for a message. Any other one fails the test.
    pub(crate) async fn hears(&mut self, text: &str) -> VerifiedMessage {
        self.wait(text, |event| match event {
            Event::Message(m) if said(m) == text => Some((**m).clone()),
            _ => None,
        })
        .await
    }

    /// Waits for a notice of this kind, unless it has come.
    pub(crate) async fn notices(&mut self, kind: NoticeKind) {
        if self.kinds().contains(&kind) {
            return;
        }
        self.wait(kind.as_str(), |event| match event {
            Event::Notice(notice) if notice.kind == kind => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits until a change of the room was told.
    pub(crate) async fn sees_a_change(&mut self) {
        let change = |event: &Event| matches!(event, Event::ChannelChanged(_)).then_some(());
        self.wait("a change", change).await;
    }

    pub(crate) fn kinds(&self) -> Vec<NoticeKind> {
        self.notices.iter().map(|notice| notice.kind).collect()
    }

    /// Says something while the test does other things.
    pub(crate) fn says(&self, channel: ChannelId, text: &str) -> tokio::task::JoinHandle<bool> {
        let (client, body) = (self.client.clone(), Body::text(text));
        tokio::spawn(async move {
            let sent = client.send(Target::Channel(channel), &body, 0, false).await;
            sent.is_ok_and(|report| report.stored.is_some())
        })
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(SEALED).await
    }

    /// Bob is in the room and can read it: he has heard ada say so.
    pub(crate) async fn with(settings: Settings<'_>) -> Self {
        let mut stage = Self::before(settings).await;
        stage.open().await;
        stage
    }

    /// The same before bob's first session: nothing of the room is kept at the server.
    pub(crate) async fn before(settings: Settings<'_>) -> Self {
        let liar = Liar::start().await;
        let person = |username, seed| Person::new(liar.id, username, seed);
        let (ada, carol, eve) = (person("ada", 10), person("carol", 20), person("eve", 30));
        for known in [&ada, &carol, &eve] {
            let genesis = known.genesis.clone();
            liar.tell(|script| drop(script.learn(genesis))).await;
        }
        let bob = Victim::new(&liar, "bob").await;
        let mut room = Room::new(7, &ada, settings);
        room.add(&ada, &carol.log, Role::Member);
        let mut stage = Self {
            liar,
            ada,
            carol,
            eve,
            room,
            bob,
        };
        let log = stage.identity(stage.bob.me).await;
        stage.room.add(&stage.ada, &log, Role::Member);
        if settings.history == History::SinceJoin {
            stage.room.rotate(&stage.ada);
        }
        stage
    }

    /// Keeps the room honestly and lets bob follow it.
    pub(crate) async fn open(&mut self) {
        self.keep().await;
        self.bob.client.ready(SOON).await.unwrap();
        self.bob.follow(self.room.id).await;
        self.say_good("welcome").await;
        self.bob.hears("welcome").await;
        assert!(self.bob.notices.is_empty(), "{:?}", self.bob.notices);
    }

    pub(crate) async fn identity(&self, user: UserId) -> conclave_proto::identity_log::IdentityLog {
        let log = self.liar.ask(move |script| script.identity(&user)).await;
        log.expect("somebody who is known")
    }

    pub(crate) fn log(&self) -> LogId {
        self.room.log_id()
    }

    /// Lets the server keep the room as it is and tell nobody.
    pub(crate) async fn keep(&self) {
        let room = self.room.clone();
        self.liar.tell(move |script| script.keep(&room)).await;
    }

    /// Lets the server keep what is new of the room, and tell it.
    pub(crate) async fn update(&self) {
        let room = self.room.clone();
        self.liar.tell(move |script| script.update(&room)).await;
    }

    /// Ada says the next good thing, and the server plays fair.
    pub(crate) async fn say_good(&mut self, text: &str) {
        let ctr = self.next_ctr(&self.ada.clone());
        self.room.says(&self.ada, ctr, text);
        self.update().await;
    }

    /// Ada says something; no honest member has brought `holder` a wrap yet.
    pub(crate) async fn say_with_wraps_of_others(&mut self, text: &str, holder: HolderKey) {
        let ctr = self.next_ctr(&self.ada.clone());
        self.room.says(&self.ada, ctr, text);
        let room = self.room.clone();
        self.liar
            .tell(move |script| {
                let before: Vec<_> = script.wraps.keys().copied().collect();
                script.update(&room);
                let new = |place: &(ChannelId, u32, HolderKey)| before.contains(place);
                script
                    .wraps
                    .retain(|place, _| place.2 != holder || new(place));
            })
            .await;
    }

    /// Returns the number of the next thing somebody says in the room.
    pub(crate) fn next_ctr(&self, who: &Person) -> u64 {
        let key = who.machine.machine_key();
        let said = self.room.entries.iter().filter(|entry| match &entry.body {
            EntryBody::Env(env) => {
                Header::parse(&env.header).is_some_and(|header| header.sender_key == key)
            }
            EntryBody::Ctl(_) | EntryBody::Unknown(_) => false,
        });
        u64::try_from(said.count()).unwrap() + 1
    }

    /// Puts lies into the next places of the log, then a good message; what bob is shown before that
    /// fails the test. Returns what he noticed.
    pub(crate) async fn lies(&mut self, lies: Vec<EntryBody>) -> Vec<NoticeKind> {
        let mut entries: Vec<Entry> = Vec::new();
        let first = self.room.next_seq();
        for (seq, body) in (first..).zip(lies) {
            let at = conclave_sim::hostile::now();
            entries.push(Entry { seq, at, body });
        }
        let good = self.next_ctr(&self.ada.clone());
        let good = self.room.envelope(&self.ada, good, "good");
        let last = first + u64::try_from(entries.len()).unwrap();
        entries.push(env(last, good));
        // What honest members go on from has the lies in it: nobody can take a place out of a log.
        self.room.entries.extend(entries.clone());
        let log = self.log();
        for part in entries.chunks(64) {
            let part = part.to_vec();
            let kept = part.clone();
            self.liar
                .tell(move |script| script.logs.entry(log).or_default().extend(kept))
                .await;
            self.liar.push(log, part).await;
        }
        self.bob.notices.clear();
        self.bob.hears("good").await;
        self.bob.kinds()
    }

    /// Asserts that an envelope that is a lie is not shown, for the reason expected.
    pub(crate) async fn refused(&mut self, lie: Envelope, kind: NoticeKind) {
        let seen = self.lies(vec![EntryBody::Env(lie)]).await;
        assert_eq!(seen, [kind]);
    }

    /// Asserts that bob can still say something, and that it is sealed as it must be.
    pub(crate) async fn bob_can_talk(&mut self) {
        let text = format!("{CANARY}: bob is alive");
        assert!(self.bob.says(self.room.id, &text).await.unwrap());
        self.sync().await;
        let sealed = self.sent_by_bob().await.pop().expect("he said something");
        assert_eq!(self.opened(&sealed).as_deref(), Some(&*text));
    }

    /// Returns what bob has sent to the room, oldest first.
    pub(crate) async fn sent_by_bob(&self) -> Vec<Envelope> {
        let (log, bob) = (self.log(), name("bob"));
        let all = self
            .liar
            .ask(move |script| script.logs.get(&log).cloned())
            .await;
        let envs = all.unwrap_or_default().into_iter().map(|entry| entry.body);
        envs.filter_map(|body| match body {
            EntryBody::Env(env) => Some(env),
            EntryBody::Ctl(_) | EntryBody::Unknown(_) => None,
        })
        .filter(|env| Header::parse(&env.header).is_some_and(|h| h.sender.user == bob))
        .collect()
    }

    /// Opens what somebody said with the keys of the honest members.
    pub(crate) fn opened(&self, env: &Envelope) -> Option<String> {
        let parsed = env.clone().parse().ok()?;
        assert_eq!(parsed.header.suite, Suite::One, "sent in the clear");
        let mut keys = self.room.keys.iter();
        let key = keys.find(|key| key.place().e == parsed.header.epoch)?;
        let plain = key.open(&parsed).ok()?;
        Body::parse(&plain).ok()?.text
    }

    /// Returns what bob asked of the server, as far as `pick` wants it.
    pub(crate) async fn asked<T: Send + 'static>(
        &self,
        pick: impl Fn(&Op) -> Option<T> + Send + 'static,
    ) -> Vec<T> {
        let bob = self.bob.me;
        let all = move |script: &mut Script| {
            let his = script.asked.iter().filter(|(user, _)| *user == bob);
            his.filter_map(|(_, op)| pick(op)).collect()
        };
        self.liar.ask(all).await
    }

    /// Waits until bob has asked for something since `before` questions.
    pub(crate) async fn bob_asks(
        &mut self,
        what: &str,
        before: usize,
        is: impl Fn(&Op) -> bool + Clone + Send + 'static,
    ) {
        let bob = self.bob.me;
        let holds = move |script: &Script| {
            let new = script.asked.iter().skip(before);
            new.into_iter().any(|(user, op)| *user == bob && is(op))
        };
        self.liar.until(&format!("HANGS: bob {what}"), holds).await;
    }

    /// Returns how many questions were asked.
    pub(crate) async fn questions(&self) -> usize {
        self.liar.ask(|script| script.asked.len()).await
    }

    /// Returns the newest control record of a room before a place.
    pub(crate) fn head_before(room: &Room, seq: u64) -> Head {
        let before = room.entries.iter().filter(|entry| entry.seq < seq);
        let ctls = before.filter_map(|entry| match &entry.body {
            EntryBody::Ctl(rec) => ParsedCtl::parse(rec).ok().zip(Record::parse(rec).ok()),
            EntryBody::Env(_) | EntryBody::Unknown(_) => None,
        });
        let (parsed, record) = ctls.last().unwrap();
        Head {
            n: parsed.c,
            hash: record.hash(),
        }
    }

    /// Returns every wrap that bob sealed for the room: beside epochs, and later.
    pub(crate) async fn wraps_by_bob(&self) -> Vec<Wrap> {
        let room = self.room.id;
        let all = self.asked(move |op| match op {
            Op::CtlAppend(op) if op.channel == room => Some(op.wraps.clone()),
            Op::WrapPut(op) if op.channel == room => Some(op.wraps.clone()),
            _ => None,
        });
        all.await.into_iter().flatten().collect()
    }

    /// Takes over what bob appended, as an honest member would: ada opens his keys with her own.
    pub(crate) async fn sync(&mut self) {
        let (log, room) = (self.log(), self.room.id);
        let ada = HolderKey::from(self.ada.machine.machine_key());
        let (kept, hers) = self
            .liar
            .ask(move |script| {
                let wraps = script.wraps.iter();
                let hers = wraps.filter(|((channel, _, to), _)| *channel == room && *to == ada);
                let hers: Vec<(u32, Wrap)> = hers.map(|((_, e, _), wrap)| (*e, *wrap)).collect();
                (script.logs.get(&log).cloned().unwrap_or_default(), hers)
            })
            .await;
        for entry in kept {
            if entry.seq < self.room.next_seq() {
                continue;
            }
            if let EntryBody::Ctl(rec) = &entry.body {
                let people = &self.room.people;
                let applied = self.room.log.apply(entry.seq, entry.at, rec, people);
                if let Ok(CtlChange::EpochStarted(e)) = applied {
                    let wrap = hers.iter().find(|(of, _)| *of == e);
                    let (_, wrap) = wrap.expect("a wrap for every member");
                    let (channel, epoch) = (room, self.room.log.epoch().unwrap());
                    let place = Place { channel, e };
                    let key = wrap::open(wrap, place, &epoch.commit, &self.ada.encryption);
                    self.room
                        .keys
                        .push(key.expect("the key that was committed to"));
                }
            }
            self.room.entries.push(entry);
        }
    }

    /// Asserts that bob seals no key to a holder: he makes a new epoch, and all he ever sealed is looked
    /// at.
    pub(crate) async fn no_key_for(&mut self, holder: HolderKey) {
        let rotated = tokio::time::timeout(SOON, self.bob.client.rotate(self.room.id)).await;
        rotated.expect("HANGS: bob makes no epoch").unwrap();
        self.sync().await;
        let wraps = self.wraps_by_bob().await;
        let ada = HolderKey::from(self.ada.machine.machine_key());
        assert!(
            wraps.iter().any(|wrap| wrap.to == ada),
            "bob sealed nothing"
        );
        let sealed = wraps.iter().any(|wrap| wrap.to == holder);
        assert!(!sealed, "ATTACK SUCCEEDED: bob sealed the key to it");
    }

    /// Shows only the first records of a user's identity from now on.
    pub(crate) async fn show_older_identity(&self, user: UserId, count: usize) {
        self.liar
            .tell(move |script| {
                let older: Vec<_> = script.idents[&user].iter().take(count).cloned().collect();
                script.lie(move |asked| match asked.op {
                    Op::IdentFetch(op) if op.user == user => {
                        let from = usize::try_from(op.from).unwrap();
                        Some(Outcome::Ok(Reply::Idents(Idents {
                            user,
                            records: older.iter().skip(from).cloned().collect(),
                            head: u64::try_from(count).unwrap() - 1,
                        })))
                    }
                    _ => None,
                });
            })
            .await;
    }

    /// Says that a member's machine lacks the newest key.
    pub(crate) async fn wanted(&self) {
        let of = self.epoch_of();
        self.liar.event(Told::Wanted(of)).await;
    }

    /// Says that a wrap has come.
    pub(crate) async fn keys_came(&self) {
        let of = self.epoch_of();
        let frame = ServerFrame::Event(Told::Keys(of));
        self.liar.frame_to(self.bob.me, frame).await;
    }

    pub(crate) fn epoch_of(&self) -> EpochOf {
        let e = self.room.log.epoch().map_or(0, |epoch| epoch.e);
        EpochOf {
            channel: self.room.id,
            e,
        }
    }

    /// Asserts that nothing the server heard in the whole scene has anything in it that is sealed.
    pub(crate) async fn sealed_lips(&self) {
        assert!(self.liar.ask(|s: &mut Script| s.bytes_heard()).await > 0);
        assert!(!self.liar.was_told(CANARY).await, "the server heard it");
    }
}

pub(crate) async fn connect(home: &Home) -> (Client, mpsc::Receiver<Event>) {
    static INSTANCE: AtomicU8 = AtomicU8::new(2);
    let profile = home.servers().unwrap().pop().unwrap();
    let instance = INSTANCE.fetch_add(1, Ordering::Relaxed);
    let session = Session {
        handle: name("web"),
        pinned: true,
        instance: Instance::new([instance; 16]),
        agent: "test".into(),
    };
    let (client, events) = Client::connect(home, &profile, session).await.unwrap();
    client.ready(SOON).await.unwrap();
    (client, events)
}

pub(crate) fn said(message: &VerifiedMessage) -> &str {
    message.body.text.as_deref().unwrap_or_default()
}
