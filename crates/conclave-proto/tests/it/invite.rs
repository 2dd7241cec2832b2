//! Invite links, admin acts and server key rotation.

use crate::people::{CHANNEL, Person, SERVER, TS, bit_flips, secret};
use conclave_proto::admin::{Act, AdminBody, BadAdmin, ParsedAct};
use conclave_proto::id::{Blob, InviteId, ServerId, UserId};
use conclave_proto::invite::{BadLink, Link, LinkKind, LinkSecret};
use conclave_proto::key::label;
use conclave_proto::record::Record;
use conclave_proto::server_rotation::{BadRotation, ServerRotation};
use proptest::prelude::*;

const ORIGIN: &str = "https://chat.example:8443";

fn links() -> [Link; 3] {
    let server = secret(1).server_key();
    let hidden = || LinkSecret::new([7; 32]);
    [
        Link::invite(ORIGIN, hidden(), &server),
        Link::bootstrap("http://127.0.0.1:4400", hidden(), &server),
        Link::machine(
            "https://[::1]:4400",
            hidden(),
            &server,
            UserId::new([9; 32]),
        ),
    ]
}

#[test]
fn links_read_as_they_print_and_say_what_they_are_for() {
    for link in links() {
        let text = link.to_string();
        assert_eq!(text.parse(), Ok(link.clone()), "{text}");
        assert_eq!(format!("  {text}\n").parse(), Ok(link));
    }
    let [invite, boot, machine] = links();
    assert!(
        invite
            .to_string()
            .starts_with("https://chat.example:8443/i/")
    );
    assert!(
        boot.to_string()
            .starts_with("http://127.0.0.1:4400/i/boot#1.")
    );
    assert!(machine.to_string().starts_with("https://[::1]:4400/m/"));
    assert_eq!(invite.kind, LinkKind::Invite(invite.id()));
    assert_eq!(invite.id(), boot.id());
    assert_eq!(invite.fingerprint, secret(1).server_key().fingerprint());
}

#[test]
fn a_secret_does_not_print_but_in_its_link() {
    let [link, ..] = links();
    let hidden = conclave_proto::id::to_text(link.secret.as_bytes());
    assert!(!format!("{link:?}").contains(&hidden));
    assert!(link.to_string().contains(&hidden));
}

#[test]
fn a_text_that_is_no_whole_link_is_refused() {
    let text = links()[0].to_string();
    let (front, _) = text.split_once('#').unwrap();
    let other = InviteId::new([9; 16]).to_string();
    let id = links()[0].id().to_string();
    let cases = [
        String::new(),
        front.to_owned(),
        text.replace("#1.", "#2."),
        text.replace("https", "ftp"),
        text.replace("/i/", "/x/"),
        text.replace(&id, &other),
        text.replace(&id, "short"),
        text.replace("chat.example", "chat example"),
        text.replace("chat.example", "chat.example/deep"),
        text.replace("chat.example", "user@chat.example"),
        text.replace("chat.example:8443", ""),
        format!("{text}.more"),
        format!("{text}="),
        text[..text.len() - 1].to_owned(),
        format!("{text}{}", "A".repeat(600)),
    ];
    for case in cases {
        assert_eq!(case.parse::<Link>(), Err(BadLink), "{case}");
    }
}

fn act(user: &Person, body: AdminBody) -> Act {
    Act {
        server: SERVER,
        request: [6; 16],
        body,
        user: user.id(),
        ts: TS,
    }
}

fn judge(rec: &Record, server: &ServerId, who: &Person) -> Result<AdminBody, BadAdmin> {
    let verified = ParsedAct::parse(rec.bytes())?.verify()?;
    verified.check(server, &who.log).map(|act| act.body.clone())
}

#[test]
fn an_admin_act_counts_for_its_server_user_and_active_key_only() {
    let (mut alice, bob) = (Person::new("alice", 10), Person::new("bob", 20));
    let body = AdminBody::LogFreeze {
        channel: CHANNEL,
        on: true,
    };
    let rec = act(&alice, body.clone()).sign_machine(&alice.laptop);
    assert_eq!(judge(&rec, &SERVER, &alice), Ok(body.clone()));
    assert_eq!(judge(&rec, &SERVER, &bob), Err(BadAdmin::Key));
    assert_eq!(
        judge(&rec, &ServerId::new([1; 32]), &alice),
        Err(BadAdmin::Server)
    );
    let foreign = act(&alice, body.clone()).sign_machine(&bob.laptop);
    assert_eq!(judge(&foreign, &SERVER, &alice), Err(BadAdmin::Key));
    let elsewhere = Record::sign(label::CONTROL, rec.body(), &alice.laptop);
    assert_eq!(judge(&elsewhere, &SERVER, &alice), Err(BadAdmin::Signature));
    for flipped in bit_flips(rec.bytes()) {
        assert!(
            ParsedAct::parse(&flipped)
                .and_then(ParsedAct::verify)
                .is_err()
        );
    }
    alice.revoke(alice.laptop.machine_key());
    assert_eq!(judge(&rec, &SERVER, &alice), Err(BadAdmin::Key));
    let by_owner = act(&alice, body.clone()).sign_owner(&alice.owner);
    assert_eq!(judge(&by_owner, &SERVER, &alice), Ok(body));
}

#[test]
fn admins_are_made_and_unmade_by_owner_key_only() {
    let alice = Person::new("alice", 10);
    let user = UserId::new([8; 32]);
    for body in [
        AdminBody::AdminAdd { user },
        AdminBody::AdminRemove { user },
    ] {
        let act = act(&alice, body.clone());
        let by_machine = act.sign_machine(&alice.laptop);
        assert_eq!(
            judge(&by_machine, &SERVER, &alice),
            Err(BadAdmin::NeedsOwnerKey)
        );
        assert_eq!(
            judge(&act.sign_owner(&alice.owner), &SERVER, &alice),
            Ok(body.clone())
        );
        // A machine's key that calls itself an owner's is none.
        let posing = act.sign_owner(&alice.laptop);
        assert_eq!(judge(&posing, &SERVER, &alice), Err(BadAdmin::Key));
    }
    let removal = act(&alice, AdminBody::UserRemove { user }).sign_machine(&alice.laptop);
    assert!(judge(&removal, &SERVER, &alice).is_ok());
}

#[test]
fn a_server_key_changes_only_by_the_word_of_the_one_pinned() {
    let (old, new, other) = (secret(1), secret(2), secret(3));
    let (server, pinned) = (old.server_key().server_id(), old.server_key());
    let rec = ServerRotation::sign(server, &old, new.server_key(), TS);
    let verify = |rec: &Record| ServerRotation::verify(rec.bytes(), &server, &pinned);
    assert_eq!(
        verify(&rec).map(|rotation| rotation.new),
        Ok(new.server_key())
    );
    let next = ServerRotation::sign(server, &new, other.server_key(), TS);
    assert_eq!(verify(&next), Err(BadRotation));
    assert!(ServerRotation::verify(next.bytes(), &server, &new.server_key()).is_ok());
    let forged = Record::sign(label::SERVER_ROTATE, rec.body(), &other);
    let mislabelled = Record::sign(label::CHECKPOINT, rec.body(), &old);
    let same = ServerRotation::sign(server, &old, old.server_key(), TS);
    let another = ServerRotation::sign(SERVER, &old, new.server_key(), TS);
    for bad in [forged, mislabelled, same, another] {
        assert_eq!(verify(&bad), Err(BadRotation));
    }
    for flipped in bit_flips(rec.bytes()) {
        assert_eq!(
            ServerRotation::verify(&flipped, &server, &pinned),
            Err(BadRotation)
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_a_link_or_not_and_never_panics(text in "\\PC{0,120}") {
        prop_assert!(text.parse::<Link>().is_err());
        let near = format!("https://h/i/boot#1.{text}");
        prop_assert!(near.parse::<Link>().is_err());
    }

    #[test]
    fn every_secret_makes_a_link_that_reads_back(bytes: [u8; 32], key: [u8; 32]) {
        let server = conclave_proto::key::Secret::from_seed(&key).server_key();
        let link = Link::machine(ORIGIN, LinkSecret::new(bytes), &server, UserId::new(key));
        prop_assert_eq!(link.to_string().parse::<Link>(), Ok(link));
    }

    #[test]
    fn rotations_of_any_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let rec = Record::sign(label::SERVER_ROTATE, &body, &secret(1));
        let key = secret(1).server_key();
        prop_assert!(ServerRotation::verify(rec.bytes(), &key.server_id(), &key).is_err());
        prop_assert!(ServerRotation::verify(&Blob::from(body), &key.server_id(), &key).is_err());
    }
}
