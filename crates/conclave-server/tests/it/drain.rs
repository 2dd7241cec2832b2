//! The end of a server: goodbye to everybody, and nothing that was acknowledged is lost.

use crate::rig::{Person, open_config, serve, soon, texts};
use conclave_proto::codec::Encoding;
use conclave_proto::frame::{Outcome, Reply, ServerFrame};
use conclave_proto::id::ChannelId;
use conclave_proto::reject::Code;
use conclave_server::Config;
use std::collections::BTreeSet;
use tokio::net::TcpStream;

const OPS: ChannelId = ChannelId::new([7; 16]);

fn durable(dir: &std::path::Path) -> Config {
    Config {
        ephemeral: false,
        data_dir: Some(dir.to_owned()),
        ..open_config()
    }
}

#[tokio::test]
async fn everybody_is_told_to_come_back_later() {
    let site = serve(open_config()).await;
    let mut session = site
        .register(&Person::new("alice", 1), Encoding::Cbor)
        .await;
    let mut stranger = site.connect(Encoding::Json).await;
    let addr = site.addr;
    let stopping = tokio::spawn(site.running.shutdown());
    for raw in [&mut session, &mut stranger] {
        let (reason, code) = raw.goodbye().await;
        let reason = reason.unwrap();
        assert_eq!(reason.code, Code::Draining);
        assert!(reason.retry_after_ms.is_some());
        assert_eq!(code, Some(4006));
    }
    drop((session, stranger));
    soon(stopping).await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_silent_client_does_not_hold_the_drain_up() {
    let mut config = open_config();
    config.limits.drain_timeout_ms = 200;
    let site = serve(config).await;
    let _session = site
        .register(&Person::new("alice", 1), Encoding::Cbor)
        .await;
    let _half = TcpStream::connect(site.addr).await.unwrap();
    soon(site.running.shutdown()).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_before_the_drain_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = serve(durable(dir.path())).await;
    let alice = Person::new("alice", 1);
    let mut raw = site.register(&alice, Encoding::Cbor).await;
    raw.create(&alice, OPS, "ops").await;
    // A full window is under way when the server is told to stop.
    for ctr in 1..=60 {
        let op = raw.message(&alice, OPS, ctr, &format!("m{ctr}"));
        raw.ask(op).await;
    }
    let first_id = 2;
    let stopping = tokio::spawn(site.running.shutdown());
    let mut acked = BTreeSet::new();
    while let Ok(frame) = raw.next().await {
        if let ServerFrame::Response(response) = frame
            && let Outcome::Ok(Reply::Appended(_)) = response.result
        {
            acked.insert(format!("m{}", response.id + 1 - first_id));
        }
    }
    drop(raw);
    soon(stopping).await.unwrap().unwrap();

    let site = serve(durable(dir.path())).await;
    let mut raw = site.login(&alice, Encoding::Cbor).await;
    raw.subscribe(OPS, 1).await;
    let mut kept = BTreeSet::new();
    while !kept.is_superset(&acked) {
        kept.extend(raw.event(|e| Some(texts(e))).await);
    }
    site.running.shutdown().await.unwrap();
}
