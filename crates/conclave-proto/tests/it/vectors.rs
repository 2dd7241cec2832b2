//! The bytes of every type of signed record, frozen in `vectors/records.json`.
//!
//! Keys are Ed25519 seeds of 32 equal bytes. To add a record, add it here and run with
//! `CONCLAVE_BLESS=1`; what is released never changes.

use crate::people::{CHANNEL, Person, SERVER, TS, ek, hex, name, secret};
use conclave_proto::admin::{Act, AdminBody, ParsedAct};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{
    Ctl, CtlBody, History, Limits, Mode, ParsedCtl, RemoveKind, Role, Visibility,
};
use conclave_proto::id::{Hash, UserId};
use conclave_proto::identity_log::{Cap, MachineClaim, Parsed, build};
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::record::Record;
use conclave_proto::server_rotation::ServerRotation;
use serde_json::{Value, json};

fn entry(kind: &str, word: &str, label: &str, signer: u8, rec: &Record) -> Value {
    json!({
        "log": kind, "type": word, "label": label, "signer_seed": hex(&[signer; 32]),
        "body": hex(rec.body()), "record": hex(rec.bytes()), "hash": hex(rec.hash().as_bytes()),
    })
}

fn identity() -> Vec<Value> {
    let mut alice = Person::new("alice", 10);
    let (id, owner) = (alice.id(), alice.owner.clone());
    let desk = |name_: &str, seed| MachineClaim::enrol(&id, name(name_), ek(seed), &secret(seed));
    let caps = [
        Cap::Send,
        Cap::Create,
        Cap::StewardOwn,
        Cap::Steward(CHANNEL),
    ]
    .into();
    alice.append(&build::add_machine(
        &alice.log,
        desk("desktop", 12),
        caps,
        &owner,
        TS,
    ));
    let old = secret(12).machine_key();
    alice.append(&build::rotate_machine(
        &alice.log,
        old,
        desk("desktop", 13),
        &owner,
        TS,
    ));
    let gone = secret(13).machine_key();
    alice.append(&build::revoke_machine(&alice.log, gone, "lost", &owner, TS));
    alice.append(&build::add_owner(
        &alice.log,
        secret(14).owner_key(),
        &owner,
        TS,
    ));
    alice.append(&build::revoke_owner(
        &alice.log,
        secret(14).owner_key(),
        &owner,
        TS,
    ));
    let describe = |blob| {
        let parsed = Parsed::parse(blob).unwrap().verify().unwrap();
        entry(
            "identity",
            parsed.body.word(),
            "conclave/v1/identity",
            10,
            parsed.record(),
        )
    };
    alice.records.iter().map(describe).collect()
}

fn control() -> Vec<Value> {
    let alice = Person::new("alice", 10);
    let (user, head) = (
        UserId::new([8; 32]),
        Head {
            n: 1,
            hash: Hash::new([9; 32]),
        },
    );
    let after = Head {
        n: 4,
        hash: Hash::new([5; 32]),
    };
    let author = alice.author("laptop");
    let limits = Some(Limits {
        members_max: 50,
        retention_days: 30,
    });
    let (general, link) = (Some(name("general")), secret(99));
    let (key, invite) = (link.invite_key(), link.invite_key().invite_id());
    let (visibility, topic) = (Visibility::Public, Some("everything".to_owned()));
    let (mode, history, role) = (Mode::Signed, History::Full, Role::Member);
    let name_box = Some(vec![7; 30].into());
    let (commit, members_root) = (Hash::new([5; 32]), Hash::new([6; 32]));
    let (prev_box, bundle_box) = (Some(vec![1; 72].into()), vec![2; 60].into());
    let ticket = Some(Ctl::ticket(&CHANNEL, &after, &author, &link));
    let bodies = [
        CtlBody::Create {
            mode,
            visibility,
            history,
            name: general,
            topic,
            limits,
        },
        CtlBody::Add {
            user,
            ident: head,
            role,
        },
        CtlBody::Remove {
            user,
            kind: RemoveKind::Ban,
        },
        CtlBody::Unban { user },
        CtlBody::Role {
            user,
            role: Role::Reader,
        },
        CtlBody::Invite {
            key,
            role,
            max_uses: 3,
            expires: TS.plus(1),
        },
        CtlBody::InviteRevoke { invite },
        CtlBody::Join { ticket: None },
        CtlBody::Join { ticket },
        CtlBody::Ident { user, head },
        CtlBody::Epoch {
            e: 1,
            covers_c: 4,
            members_root,
            commit,
            prev_box,
            bundle_box,
        },
        CtlBody::Freeze { on: true },
        CtlBody::Confidential { on: true },
        CtlBody::Meta {
            visibility: None,
            name: None,
            name_box,
            topic: Some(String::new()),
        },
        CtlBody::Close {},
    ];
    let describe = |body: CtlBody| {
        let word = body.word();
        let after = (word != "create").then_some(after);
        let ctl = Ctl {
            channel: CHANNEL,
            after,
            body: body.clone(),
            author: author.clone(),
            ts: TS,
        };
        [
            (11, ctl.sign_machine(&secret(11))),
            (10, ctl.sign_owner(&secret(10))),
        ]
        .map(|(seed, rec)| {
            let parsed = ParsedCtl::parse(rec.bytes()).unwrap().verify().unwrap();
            assert_eq!(parsed.body, body);
            entry("control", word, "conclave/v1/control", seed, &rec)
        })
    };
    bodies.into_iter().flat_map(describe).collect()
}

fn admin() -> Vec<Value> {
    let alice = Person::new("alice", 10);
    let (user, key) = (UserId::new([8; 32]), secret(99).invite_key());
    let bodies = [
        AdminBody::UserRemove { user },
        AdminBody::AdminAdd { user },
        AdminBody::AdminRemove { user },
        AdminBody::ServerInvite {
            key,
            max_uses: 3,
            expires: TS.plus(1),
        },
        AdminBody::ServerInviteRevoke {
            invite: key.invite_id(),
        },
        AdminBody::LogFreeze {
            channel: CHANNEL,
            on: true,
        },
        AdminBody::LogDelete { channel: CHANNEL },
    ];
    let describe = |body: AdminBody| {
        let act = Act {
            server: SERVER,
            request: [6; 16],
            body,
            user: alice.id(),
            ts: TS,
        };
        let rec = act.sign_owner(&alice.owner);
        let parsed = ParsedAct::parse(rec.bytes()).unwrap().verify().unwrap();
        assert_eq!(parsed.act(), &act);
        entry("admin", act.body.word(), "conclave/v1/admin", 10, &rec)
    };
    bodies.into_iter().map(describe).collect()
}

#[test]
fn the_bytes_of_every_record_are_frozen() {
    let old = secret(1);
    let server = old.server_key().server_id();
    let rotation = ServerRotation::sign(server, &old, secret(2).server_key(), TS);
    let mut all = [identity(), control(), admin()].concat();
    all.push(entry(
        "server",
        "server_rotate",
        "conclave/v1/server-rotate",
        1,
        &rotation,
    ));
    let link = Link::invite(
        "https://chat.example",
        LinkSecret::new([7; 32]),
        &old.server_key(),
    );
    let invite = json!({
        "secret": hex(&[7; 32]),
        "sign_seed": hex(link.secret.signing_key().seed().as_slice()),
        "invite_key": hex(link.secret.signing_key().invite_key().as_bytes()),
        "invite_id": hex(link.id().as_bytes()),
        "server_seed": hex(&[1; 32]),
        "link": link.to_string(),
    });
    let made = json!({ "records": all, "invite": invite });
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/records.json");
    if std::env::var_os("CONCLAVE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(frozen, made, "the bytes of a record changed");
}
