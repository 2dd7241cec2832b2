//! Owner keys and the accounts they make.

use conclave_client::account::NewAccount;
use conclave_client::home::Home;
use conclave_client::keystore::MachineKeys;
use conclave_client::owner::{Owner, OwnerError};
use conclave_proto::id::ServerId;
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;

fn public(owner: &Owner) -> String {
    owner.secret().owner_key().to_string()
}

#[test]
fn a_recovery_key_gives_the_owner_key_back_however_it_is_typed() {
    let owner = Owner::create().unwrap();
    let text = owner.recovery();
    assert_eq!(text.split('-').count(), 14);
    assert!(text.split('-').all(|group| group.len() == 4), "{}", *text);
    let sloppy = text
        .to_lowercase()
        .replace('-', "  ")
        .replace('0', "o")
        .replace('1', "l");
    for typed in [text.to_string(), text.replace('-', ""), sloppy] {
        assert_eq!(
            public(&Owner::from_recovery(&typed).unwrap()),
            public(&owner)
        );
    }
}

#[test]
fn every_typo_in_a_recovery_key_is_detected() {
    let text = Owner::create().unwrap().recovery();
    for (at, c) in text.char_indices().filter(|(_, c)| *c != '-') {
        let other = if c == 'Z' { 'Y' } else { 'Z' };
        let mut typed = text.to_string();
        typed.replace_range(at..=at, &other.to_string());
        assert!(
            matches!(Owner::from_recovery(&typed), Err(OwnerError::Checksum)),
            "{typed}"
        );
    }
    let short = text.get(..text.len() - 1).unwrap();
    assert!(matches!(
        Owner::from_recovery(short),
        Err(OwnerError::Length(55))
    ));
    let long = format!("{}0", *text);
    assert!(matches!(
        Owner::from_recovery(&long),
        Err(OwnerError::Length(57))
    ));
    let strange = text.replacen(|c: char| c != '-', "U", 1);
    let error = Owner::from_recovery(&strange).map(|_| ()).unwrap_err();
    assert!(matches!(
        error,
        OwnerError::Alphabet {
            found: 'U',
            group: 1
        }
    ));
}

#[test]
fn a_sealed_copy_opens_with_its_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    let server = ServerId::new([1; 32]);
    let owner = Owner::create().unwrap();
    assert!(!Owner::has_copy(&home, &server).unwrap());
    assert!(Owner::load(&home, &server, "x").unwrap().is_none());
    owner.save(&home, &server, "correct horse").unwrap();
    assert!(Owner::has_copy(&home, &server).unwrap());
    let opened = Owner::load(&home, &server, "correct horse")
        .unwrap()
        .unwrap();
    assert_eq!(public(&opened), public(&owner));
    assert!(matches!(
        Owner::load(&home, &server, "wrong"),
        Err(OwnerError::Passphrase)
    ));
}

#[test]
fn a_changed_sealed_copy_does_not_open() {
    let sealed = Owner::create().unwrap().seal("p").unwrap();
    // A byte of the salt, of the nonce and of the key itself.
    for at in [25, 40, sealed.len() - 1] {
        let mut bytes = sealed.clone();
        bytes[at] ^= 1;
        assert!(
            matches!(Owner::unseal(&bytes, "p"), Err(OwnerError::Passphrase)),
            "{at}"
        );
    }
    // Costs beyond reason are refused, not paid.
    let mut greedy = sealed.clone();
    greedy[9] = 0xff;
    for bytes in [greedy.as_slice(), &sealed[..20], b""] {
        assert!(matches!(Owner::unseal(bytes, "p"), Err(OwnerError::Format)));
    }
}

#[test]
fn no_secret_is_printed_by_debug() {
    let owner = Owner::create().unwrap();
    let keys = MachineKeys::generate().unwrap();
    assert_eq!(format!("{owner:?}"), "Owner(…)");
    assert!(format!("{keys:?}").contains("EncryptionSecret(…)"));
}

#[test]
fn a_new_account_is_a_valid_identity_of_this_machine_and_owner() {
    let server = ServerId::new([1; 32]);
    let keys = MachineKeys::generate().unwrap();
    let owner = Owner::create().unwrap();
    let name = |text| Name::new(text).unwrap();
    let ts = UnixMs(1_000);
    let account = NewAccount::make(&server, name("ada"), name("laptop"), &keys, &owner, ts);
    let log = IdentityLog::genesis(account.genesis.bytes(), &server).unwrap();
    assert_eq!(*log.user_id(), account.user_id);
    assert_eq!(log.username().as_str(), "ada");
    assert!(log.machine(&keys.signing.machine_key()).is_some());
    assert!(log.is_owner(&owner.secret().owner_key()));
    let elsewhere = ServerId::new([2; 32]);
    assert!(IdentityLog::genesis(account.genesis.bytes(), &elsewhere).is_err());
}
