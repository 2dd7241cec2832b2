//! A new key for a channel with 513 machines, by a real client, against bare HPKE to as many keys.

use crate::bare::{self, cores, median, on_all, seconds, verdict};
use crate::peer::{self, Socket};
use crate::process::Served;
use crate::room::Room;
use crate::{give_up, say};
use conclave_client::client::{Client, Signer};
use conclave_e2ee::EncryptionSecret;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::op::{EkFetch, EkPublish, IdentAppend};
use conclave_proto::frame::{Op, Outcome};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ServerId};
use conclave_proto::identity_log::{Cap, IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, HolderKey, Secret};
use conclave_proto::limit::HOLDERS_MAX;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::Receiver;

const USERS: usize = 8;
/// As many as an identity may have.
const MACHINES: usize = 64;
const ROUNDS: usize = 9;
const TARGET: f64 = 1.5;

/// A machine of another member: who holds the key, the key, and its announcement.
struct Machine {
    holder: HolderKey,
    key: EncryptionKey,
    announcement: Blob,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a plain name")
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |d| d.as_millis());
    UnixMs(u64::try_from(ms).unwrap_or(0))
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    peer::getrandom(&mut seed);
    seed
}

async fn done(socket: &mut Socket, op: Op) {
    if let Outcome::Err(reject) = peer::ask(socket, op).await {
        give_up(&format!("{reject:?}"));
    }
}

/// Registers a user, signs its machines in one after the other, and lets each announce a key.
async fn user(addr: SocketAddr, user: &str) -> Vec<Machine> {
    let (owner, first) = (Secret::from_seed(&seed()), Secret::from_seed(&seed()));
    let mut socket = peer::open(addr, Some("conclave.v2.cbor")).await;
    let mut log = None;
    let mode = |server: ServerId| {
        let owners = vec![owner.owner_key()];
        let (user, ek) = (name(user), EncryptionSecret::from_seed(&seed()).public());
        let claim = MachineClaim::found(&server, &user, &owners, name("m0"), ek, &first);
        let rec = build::genesis(server, user, owners, claim, &owner, UnixMs(1));
        let genesis = rec.bytes().clone();
        log = IdentityLog::genesis(&genesis, &server)
            .ok()
            .zip(Some(server));
        Mode::Register { genesis }
    };
    peer::enter(&mut socket, &first, name("maker"), mode).await;
    let Some((mut log, server)) = log else {
        give_up("no identity")
    };
    let mut secrets = vec![first];
    for n in 1..MACHINES {
        let secret = Secret::from_seed(&seed());
        let ek = EncryptionSecret::from_seed(&seed()).public();
        let claim = MachineClaim::enrol(log.user_id(), name(&format!("m{n}")), ek, &secret);
        let rec = build::add_machine(&log, claim, Cap::default_set(), &owner, UnixMs(2));
        let rec = rec.bytes().clone();
        log.append(&rec).expect("it follows");
        done(&mut socket, Op::IdentAppend(IdentAppend { rec })).await;
        secrets.push(secret);
    }
    let mut machines = Vec::new();
    for secret in secrets {
        let mut socket = peer::open(addr, Some("conclave.v2.cbor")).await;
        peer::enter(&mut socket, &secret, name("api"), |_| Mode::Auth).await;
        let key = EncryptionSecret::from_seed(&seed()).public();
        let until = now().plus(14 * 24 * 60 * 60 * 1000);
        let rec = Announcement::sign_machine(server, &secret, 1, key, until);
        let rec = rec.bytes().clone();
        done(&mut socket, Op::EkPublish(EkPublish { rec: rec.clone() })).await;
        machines.push(Machine {
            holder: secret.machine_key().into(),
            key,
            announcement: rec,
        });
    }
    machines
}

fn mute<T: Send + 'static>(mut events: Receiver<T>) {
    tokio::spawn(async move { while events.recv().await.is_some() {} });
}

/// Part `rotate`.
pub(crate) async fn figures() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let room = Room::make(served.addr, "bench", Visibility::Private).await;
    room.copy("cold");
    let (client, events) = room.session("home", "api", 1).await;
    mute(events);
    let mut machines = Vec::new();
    for n in 0..USERS {
        let who = format!("user{n}");
        machines.extend(user(served.addr, &who).await);
        let added = client
            .add_member(room.channel, &name(&who), Role::Member, Signer::Machine)
            .await;
        added.expect("the owner adds");
    }
    let wrapped = machines.len() + 1;
    let (cold, events) = room.session("cold", "late", 2).await;
    mute(events);
    let first = rotate(&cold, &room).await * 1000.0;
    cold.stop().await;

    let mut took: [Vec<f64>; 5] = Default::default();
    rotate(&client, &room).await;
    for _ in 0..ROUNDS {
        took[0].push(rotate(&client, &room).await);
        took[1].push(seconds(|| wraps(&machines, 1)));
        took[2].push(seconds(|| wraps(&machines, cores())));
        took[3].push(fetch(&client, &machines).await);
        took[4].push(seconds(|| {
            for machine in &machines {
                black_box(Announcement::read(&machine.announcement).expect("signed"));
            }
        }));
    }
    let [warm, one, all, fetched, read] = took.map(|all| median(all) * 1000.0);
    say(&format!(
        "a new key for {wrapped} machines: {warm:.0} ms by a client that knows the members, {first:.0} ms by one that sees their {USERS} identities and {} keys for the first time; bare HPKE: {one:.0} ms on one core, {all:.0} ms on {}",
        machines.len(),
        cores()
    ));
    say(&format!(
        "  to bare on all cores: {}",
        verdict(warm / all, TARGET)
    ));
    say(&format!(
        "  to bare on one core: {}",
        verdict(warm / one, TARGET)
    ));
    say(&format!(
        "  of it: fetching the announcements {fetched:.0} ms, checking their signatures {read:.0} ms"
    ));
    client.stop().await;
    served.kill().await;
}

async fn rotate(client: &Client, room: &Room) -> f64 {
    let start = std::time::Instant::now();
    let e = client.rotate(room.channel).await.expect("a new epoch");
    black_box(e);
    let taken = start.elapsed().as_secs_f64();
    // What sessions do when a key came is not part of it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    taken
}

/// Bare HPKE to the key of every machine.
fn wraps(machines: &[Machine], threads: usize) {
    on_all(machines, threads, |machine| {
        black_box(bare::hpke_seal(&machine.key, &[0; 92], &[1; 32]));
    });
}

async fn fetch(client: &Client, machines: &[Machine]) -> f64 {
    let start = std::time::Instant::now();
    for part in machines.chunks(HOLDERS_MAX) {
        let holders = part.iter().map(|machine| machine.holder).collect();
        let got = client.request(Op::EkFetch(EkFetch { holders })).await;
        black_box(got.expect("the server shows them"));
    }
    start.elapsed().as_secs_f64()
}
