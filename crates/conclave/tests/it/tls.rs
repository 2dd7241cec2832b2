//! A server with a certificate from files, and clients that know it by the link's fingerprint only.

use crate::world::{Home, Serve, join};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

fn private(path: &str, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_link_is_enough_for_a_certificate_that_nobody_vouches_for() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = Home::new();
    let (cert, key) = (files.file("cert.pem"), files.file("key.pem"));
    private(&cert, &made.cert.pem());
    private(&key, &made.signing_key.serialize_pem());
    let data = files.file("data");
    let args = [
        "--data-dir",
        &data,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--registration",
        "open",
    ];
    let server = Serve::start(&args);
    assert!(
        server.url().starts_with("https://127.0.0.1:"),
        "{}",
        server.url()
    );

    let alice = Home::new();
    join(
        &alice,
        "alice",
        server.ready["bootstrap_link"].as_str().unwrap(),
    )
    .ok();
    alice.run(&["channel", "create", "safe"]).ok();
    alice.run(&["send", "safe", "over TLS"]).ok();
    let read = alice.run(&["tail", "safe", "--json"]).ok();
    assert_eq!(crate::world::texts(&read), ["over TLS"]);

    let bob = Home::new();
    let file = bob.file("recovery.key");
    let register = [
        "register",
        server.url(),
        "--user",
        "bob",
        "--recovery-key-file",
        &file,
        "--json",
    ];
    let unknown = bob.run(&register);
    assert_ne!(unknown.code, 0, "no fingerprint, no trust: {unknown:?}");
    let fingerprint = server.ready["fingerprint"].as_str().unwrap();
    bob.run(&[
        "server",
        "trust",
        server.url(),
        "--fingerprint",
        fingerprint,
    ])
    .ok();
    bob.run(&register).ok();
}

#[test]
fn clear_text_for_the_whole_network_is_refused() {
    let args = ["serve", "--ephemeral", "--listen", "0.0.0.0:0", "--json"];
    Home::new().run(&args).refused(2, "usage");
}
