//! The state directory, the machine's keys and instance claims.

use conclave_client::home::{Account, Home, HomeError, Profile};
use conclave_client::instance::Claim;
use conclave_client::keystore::{KEEP_MS, MachineKeys, RENEW_MS};
use conclave_proto::id::{ServerId, UserId};
use conclave_proto::key::Secret;
use conclave_proto::name::Name;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn profile() -> Profile {
    let key = Secret::from_seed(&[7; 32]).server_key();
    Profile {
        id: key.server_id(),
        key,
        urls: vec!["https://chat.example.org:7420".into()],
        user: Some(Account {
            user: name("ada"),
            user_id: UserId::new([3; 32]),
            machine: name("laptop"),
            unsettled: false,
        }),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_saved_is_found_again_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("conclave");
    let home = Home::open(&root).unwrap();
    let mut saved = profile();
    home.save(&saved).unwrap();
    saved.user = None;
    home.save(&saved).unwrap();
    let home = Home::open(&root).unwrap();
    assert_eq!(home.servers().unwrap(), vec![saved.clone()]);
    assert_eq!(home.server(&saved.id).unwrap(), Some(saved.clone()));
    let server = home.server_dir(&saved.id);
    assert_eq!((mode(&root), mode(&server)), (0o700, 0o700));
    assert_eq!(mode(&server.join("server.toml")), 0o600);
    assert_eq!(
        fs::read_dir(&server).unwrap().count(),
        1,
        "no temporary file stays"
    );
    home.forget(&saved.id).unwrap();
    home.forget(&saved.id).unwrap();
    assert_eq!(home.servers().unwrap(), vec![]);
}

#[test]
fn an_account_survives_the_round_trip_through_toml() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    home.save(&profile()).unwrap();
    assert_eq!(home.server(&profile().id).unwrap(), Some(profile()));
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_command_that_repairs_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    home.save(&profile()).unwrap();
    let file = home.server_dir(&profile().id).join("server.toml");
    chmod(&file, 0o644);
    let error = home.server(&profile().id).unwrap_err();
    assert!(matches!(error, HomeError::Mode { mode: 0o644, .. }));
    let repair = format!("chmod 600 {}", file.display());
    assert!(error.to_string().contains(&repair), "{error}");
    assert!(matches!(home.save(&profile()), Err(HomeError::Mode { .. })));
    chmod(&file, 0o600);
    assert!(home.server(&profile().id).unwrap().is_some());
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("c");
    let home = Home::open(&root).unwrap();
    home.save(&profile()).unwrap();
    chmod(&home.server_dir(&profile().id), 0o755);
    assert!(matches!(
        home.server(&profile().id),
        Err(HomeError::Mode {
            mode: 0o755,
            want: 0o700,
            ..
        })
    ));
    chmod(&root, 0o755);
    let error = Home::open(&root).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn symbolic_links_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("c");
    let home = Home::open(&root).unwrap();
    home.save(&profile()).unwrap();
    let file = home.server_dir(&profile().id).join("server.toml");
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    for error in [
        home.server(&profile().id).unwrap_err(),
        home.save(&profile()).unwrap_err(),
    ] {
        let found = "a symbolic link";
        assert!(matches!(error, HomeError::FileType { found: f, .. } if f == found));
    }
    let link = dir.path().join("link");
    symlink(&root, &link).unwrap();
    assert!(matches!(Home::open(&link), Err(HomeError::FileType { .. })));
}

#[test]
fn a_profile_that_names_another_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    home.save(&profile()).unwrap();
    let other = ServerId::new([9; 32]);
    fs::rename(home.server_dir(&profile().id), home.server_dir(&other)).unwrap();
    assert!(matches!(
        home.server(&other),
        Err(HomeError::Damaged { .. })
    ));
}

#[test]
fn machine_keys_are_found_again_and_half_a_pair_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    let server = profile().id;
    assert!(MachineKeys::load(&home, &server).unwrap().is_none());
    let made = MachineKeys::create(&home, &server).unwrap();
    let found = MachineKeys::load(&home, &server).unwrap().unwrap();
    assert_eq!(found.signing.machine_key(), made.signing.machine_key());
    assert_eq!(found.encryption_key(), made.encryption_key());
    assert_ne!(
        made.signing.machine_key().as_bytes(),
        made.encryption_key().as_bytes()
    );
    let file = home.server_dir(&server).join("encryption.keys");
    fs::write(&file, [1; 31]).unwrap();
    assert!(matches!(
        MachineKeys::load(&home, &server),
        Err(HomeError::Damaged { .. })
    ));
    fs::remove_file(&file).unwrap();
    assert!(matches!(
        MachineKeys::load(&home, &server),
        Err(HomeError::Damaged { .. })
    ));
}

#[test]
fn encryption_keys_come_every_week_and_go_two_weeks_after_their_successor() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(&dir.path().join("c")).unwrap();
    let server = profile().id;
    let made = MachineKeys::create(&home, &server).unwrap();
    let born = made.encryption[0].since;
    let numbers = |now| -> Vec<u32> {
        let keys = MachineKeys::renew(&home, &server, now).unwrap();
        keys.iter().map(|key| key.number).collect()
    };
    assert_eq!(numbers(born.plus(RENEW_MS - 1)), [0]);
    assert_eq!(numbers(born.plus(RENEW_MS)), [0, 1]);
    // Nothing is forgotten, and nothing more made, before the server has the new one.
    assert_eq!(numbers(born.plus(10 * KEEP_MS)), [0, 1]);
    let told = born.plus(RENEW_MS + 5);
    MachineKeys::announced(&home, &server, 1, told).unwrap();
    assert_eq!(numbers(born.plus(RENEW_MS + 1)), [0, 1]);
    assert_eq!(numbers(told.plus(KEEP_MS - 1)), [0, 1, 2]);
    assert_eq!(numbers(told.plus(KEEP_MS)), [1, 2]);
    let kept = MachineKeys::load(&home, &server).unwrap().unwrap();
    assert_ne!(kept.encryption_key(), made.encryption_key());
}

#[test]
fn lesson_17_each_holder_of_a_handle_gets_its_own_instance_back() {
    let dir = tempfile::tempdir().unwrap();
    let take = |pinned| Claim::take(dir.path(), &name("build"), pinned).unwrap();
    let (first, second) = (take(false), take(false));
    assert_ne!(first.instance, second.instance);
    assert_eq!((first.sole, second.sole), (true, false));
    assert_eq!(
        (first.handle.as_str(), second.handle.as_str()),
        ("build", "build-2")
    );
    let ids = (first.instance, second.instance);
    drop(first);
    let again = take(false);
    assert_eq!((again.instance, again.handle.as_str()), (ids.0, "build"));
    drop(second);
    let again_second = take(false);
    assert_eq!(
        (again_second.instance, again_second.handle.as_str()),
        (ids.1, "build-2")
    );
}

#[test]
fn a_chosen_handle_is_never_numbered() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Claim::take(dir.path(), &name("build"), true).unwrap();
    let second = Claim::take(dir.path(), &name("build"), true).unwrap();
    assert_eq!((second.handle.as_str(), second.sole), ("build", false));
}

#[test]
fn a_torn_instance_file_gets_a_fresh_id_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("build"), b"torn").unwrap();
    let first = Claim::take(dir.path(), &name("build"), false)
        .unwrap()
        .instance;
    let again = Claim::take(dir.path(), &name("build"), false)
        .unwrap()
        .instance;
    assert_eq!(first, again);
}
