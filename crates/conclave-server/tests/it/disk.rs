//! A disk that fills up: nothing new below the floor, reads go on, and it ends by itself.

use crate::rig::{Person as User, open_config, serve};
use crate::world::{Person, World, code, settings};
use conclave_proto::channel_log::{CtlBody, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{Op, Read};
use conclave_proto::frame::reply::Reply;
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::reject::Code;
use conclave_server::store::memory::MemoryStore;
use std::path::Path;
use std::process::Command as Program;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const LOG: LogId = LogId::Channel(ROOM);
const MIB: u64 = 1024 * 1024;

#[test]
fn below_the_floor_nothing_is_appended_and_reads_go_on() {
    let mut rules = settings();
    rules.disk_floor_bytes = 512 * MIB;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.state.has_free(Some(512 * MIB));
    world.say(&mut at, ROOM, "just enough").unwrap();

    world.state.has_free(Some(512 * MIB - 1));
    let env = at.message(ROOM, "too much");
    let refused = world.append(&mut at, LOG, env.clone()).unwrap_err();
    assert_eq!(refused.code, Code::StorageFull);
    assert!(
        refused
            .message
            .contains("511 MiB left, its floor is 512 MiB"),
        "{refused}"
    );
    let freeze = CtlBody::Freeze { on: true };
    let refused = world.ctl(&ana, &at, ROOM, Some(head), freeze.clone());
    assert_eq!(refused.unwrap_err().code, Code::StorageFull);
    assert!(world.subscribe(&at, LOG, 0).is_ok());
    assert_eq!(world.entries(at.conn).len(), 2);
    let back = world.join_session(&ana, "more", 2);
    assert!(world.subscribe(&back, LOG, 0).is_ok());

    world.state.has_free(Some(512 * MIB));
    assert!(world.append(&mut at, LOG, env).is_ok());
    assert!(world.ctl(&ana, &at, ROOM, Some(head), freeze).is_ok());
    world.state.has_free(None);
    let refused = world.say(&mut at, ROOM, "frozen");
    assert_eq!(
        code(refused),
        Code::Frozen,
        "a store that does not know has room"
    );
}

/// A mounted tmpfs of eight mebibytes, unmounted at the end.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(dir: &'a Path) -> Option<Self> {
        let mut mount = Program::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(dir);
        let done = mount.output().is_ok_and(|out| out.status.success());
        done.then_some(Self(dir))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Program::new("umount").arg("-l").arg(self.0).output().ok();
    }
}

#[tokio::test]
async fn a_real_disk_that_fills_up_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Small::mount(dir.path()) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let mut config = open_config();
    config.ephemeral = false;
    config.data_dir = Some(dir.path().join("data"));
    config.disk_floor_mib = 2;
    let site = serve(config).await;
    let ana = User::new("ana", 1);
    let mut raw = site.register(&ana, Encoding::Cbor).await;
    raw.create(&ana, ROOM, "room").await;
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; usize::try_from(5 * MIB).unwrap()]).unwrap();
    // The write-ahead log eats what is left until the server notices.
    let mut ctr = 0;
    let refused = loop {
        ctr += 1;
        let op = raw.message(&ana, ROOM, ctr, &"x".repeat(1_000));
        if let Err(refused) = raw.call(op).await {
            break refused;
        }
    };
    assert_eq!(refused.code, Code::StorageFull);
    assert!(refused.message.contains("floor is 2 MiB"), "{refused}");
    let (log, after, limit) = (LOG, 0, 10);
    let page = raw.call(Op::Read(Read { log, after, limit })).await;
    assert!(matches!(page, Ok(Reply::Page(page)) if page.entries.len() == 10));
    std::fs::remove_file(&ballast).unwrap();
    loop {
        let op = raw.message(&ana, ROOM, ctr, "at last");
        match raw.call(op).await {
            Ok(_) => break,
            Err(refused) => assert_eq!(refused.code, Code::StorageFull),
        }
        tokio::task::yield_now().await;
    }
    site.running.shutdown().await.unwrap();
}
