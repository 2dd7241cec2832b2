//! The programs in `examples/python`, run as a newcomer runs them: a stock MCP client, and a peer
//! that shares no code with this repository.

use crate::world::{Background, Home, Session, Up};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python")
}

/// Returns Python if it has these packages; says so otherwise.
fn python(packages: &str) -> Option<Command> {
    let found = Command::new("python3")
        .args(["-c", &format!("import {packages}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: python3 with {packages} is not installed");
        return None;
    }
    let mut python = Command::new("python3");
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(examples())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Some(python)
}

/// A server on which anybody may make an account, and alice on it.
fn open_server(alice: &Home) -> (Background, String) {
    let data = alice.file("server");
    let args = [
        "serve",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--registration",
        "open",
    ];
    let (server, _) =
        Background::start(alice.command(&[&args[..], &["--data-dir", &data]].concat()));
    let url = server.line()["url"].as_str().unwrap().to_owned();
    let key = alice.file("recovery.key");
    let who = [
        "--user",
        "alice",
        "--machine",
        "desk",
        "--recovery-key-file",
        &key,
    ];
    alice.run(&[&["register", &url][..], &who].concat()).ok();
    (server, url)
}

/// The peer of `examples/python/peer.py`.
struct Peer {
    heard: Background,
    says: ChildStdin,
}

impl Peer {
    /// Joins the public channel `lobby`.
    fn start(mut python: Command, url: &str, keys: &str) -> Self {
        python.args(["peer.py", url, "--channel", "lobby"]);
        Self::spawn(python, keys).ready()
    }

    /// Joins the channel that a link leads into.
    fn by_link(mut python: Command, link: &str, keys: &str) -> Self {
        python.args(["peer.py", "--link"]);
        let mut peer = Self::spawn(python, keys);
        writeln!(peer.says, "{link}").unwrap();
        peer.ready()
    }

    fn spawn(mut python: Command, keys: &str) -> Self {
        python
            .args(["--user", "pia", "--keys", keys])
            .stdin(Stdio::piped());
        let (heard, says) = Background::start(python);
        let says = says.unwrap();
        Self { heard, says }
    }

    fn ready(self) -> Self {
        let ready = json!({"kind": "ready", "path": "pia/python/peer"});
        assert_eq!(self.line(), ready);
        self
    }

    fn line(&self) -> Value {
        self.heard.line()
    }

    /// Says a line and waits until the server has it.
    fn say(&mut self, line: &str) {
        writeln!(self.says, "{line}").unwrap();
        assert_eq!(self.line()["kind"], "stored");
    }

    fn hears(&self, kind: &str, from: &str, text: &str) {
        let line = self.line();
        assert_eq!(line["kind"], kind, "{line}");
        assert_eq!((&line["from"], &line["text"]), (&json!(from), &json!(text)));
    }
}

#[test]
fn a_peer_written_from_the_document_alone_talks_with_a_session_both_ways() {
    let Some(python) = python("cryptography") else {
        return;
    };
    let alice = Home::new();
    let (_server, url) = open_server(&alice);
    alice
        .run(&["channel", "create", "lobby", "--visibility", "public"])
        .ok();
    let mut api = Session::start(&alice, "api");
    api.must("join_channel", json!({"channel": "lobby"}));
    let mut pia = Peer::start(python, &url, &alice.file("peer.keys"));

    pia.say("hello from python");
    let heard = api.hear();
    assert!(
        heard["content"]
            .as_str()
            .unwrap()
            .contains("hello from python"),
        "{heard}"
    );
    assert_eq!(heard["meta"]["from"], "pia/python/peer", "{heard}");
    api.must(
        "send_channel",
        json!({"channel": "lobby", "text": "hello, пиа"}),
    );
    pia.hears("message", "alice/desk/api", "hello, пиа");

    pia.say("@alice/desk/api between us");
    let heard = api.hear();
    assert!(
        heard["content"].as_str().unwrap().contains("between us"),
        "{heard}"
    );
    assert_eq!(heard["meta"]["kind"], "whisper", "{heard}");
    api.must(
        "whisper",
        json!({"to": "pia/python/peer", "text": "and nobody else"}),
    );
    pia.hears("whisper", "alice/desk/api", "and nobody else");
}

#[test]
fn a_peer_comes_back_with_its_keys_and_has_what_was_said_meanwhile() {
    let (Some(first), Some(second)) = (python("cryptography"), python("cryptography")) else {
        return;
    };
    let alice = Home::new();
    let (_server, url) = open_server(&alice);
    alice
        .run(&["channel", "create", "lobby", "--visibility", "public"])
        .ok();
    let keys = alice.file("peer.keys");
    drop(Peer::start(first, &url, &keys));
    alice.run(&["send", "lobby", "while you were away"]).ok();
    let pia = Peer::start(second, &url, &keys);
    pia.hears("message", "alice/desk/cli", "while you were away");
}

fn content(heard: &Value) -> &str {
    heard["content"].as_str().unwrap()
}

#[test]
fn a_peer_reads_and_writes_a_sealed_channel_it_joined_by_a_link() {
    let Some(python) = python("cryptography") else {
        return;
    };
    let alice = Home::new();
    let (_server, _url) = open_server(&alice);
    alice.run(&["channel", "create", "ops"]).ok();
    alice.run(&["send", "ops", "in the first epoch"]).ok();
    alice.run(&["channel", "rotate", "ops"]).ok();
    alice.run(&["send", "ops", "before pia came"]).ok();
    let made = alice
        .run(&["invite", "create", "ops", "--json"])
        .ok()
        .json();
    let mut api = Session::start(&alice, "api");
    api.must("join_channel", json!({"channel": "ops"}));
    let link = made["link"].as_str().unwrap();
    let mut pia = Peer::by_link(python, link, &alice.file("peer.keys"));
    pia.hears("message", "alice/desk/cli", "in the first epoch");
    pia.hears("message", "alice/desk/cli", "before pia came");

    pia.say("sealed by python");
    let heard = api.hear();
    assert!(content(&heard).contains("sealed by python"), "{heard}");
    assert_eq!(heard["meta"]["from"], "pia/python/peer", "{heard}");

    alice.run(&["channel", "rotate", "ops"]).ok();
    api.must(
        "send_channel",
        json!({"channel": "ops", "text": "in a new epoch"}),
    );
    pia.hears("message", "alice/desk/api", "in a new epoch");
    pia.say("and python has its key");
    let heard = api.hear();
    assert!(
        content(&heard).contains("and python has its key"),
        "{heard}"
    );

    let stored = stored(Path::new(&alice.file("server")));
    let has = |text: &str| stored.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("pia/python/peer"), "the server knows who speaks");
    for text in ["sealed by python", "in the first epoch", "and python has"] {
        assert!(!has(text), "the server has \"{text}\"");
    }
}

#[test]
fn a_peer_that_joins_where_the_past_is_closed_begins_an_epoch_and_reads_from_there() {
    let Some(python) = python("cryptography") else {
        return;
    };
    let alice = Home::new();
    let (_server, _url) = open_server(&alice);
    let create = ["channel", "create", "ops", "--history", "since-join"];
    alice.run(&create).ok();
    alice.run(&["send", "ops", "before pia came"]).ok();
    let made = alice
        .run(&["invite", "create", "ops", "--json"])
        .ok()
        .json();
    let link = made["link"].as_str().unwrap();
    let mut pia = Peer::by_link(python, link, &alice.file("peer.keys"));
    pia.say("under a key that python drew");
    alice.run(&["send", "ops", "and alice has it"]).ok();
    pia.hears("message", "alice/desk/cli", "and alice has it");
    let heard = alice.run(&["tail", "ops", "--json"]).ok();
    let texts = crate::world::texts(&heard);
    let all = [
        "before pia came",
        "under a key that python drew",
        "and alice has it",
    ];
    assert_eq!(texts, all);
}

/// Every byte that a server keeps.
fn stored(dir: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(dir).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let files = paths.filter(|path| path.is_file());
    files
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Makes an account and says in the clear what must be sealed: to the server, and to a peer.
const WHISPER_IN_THE_CLEAR: &str = "
import sys, json
from peer import Peer
from signed import WHISPER, b64, encryption_key, keys_in, seal
import sealed
from wire import Refused, cbor
peer = Peer(sys.argv[1], keys_in('no such file'), 'pia')
peer.join('lobby')
log, scope, to = peer.mailbox, peer.server_id[:16], peer.path.encode()
clear = seal(peer.keys['machine'], WHISPER, scope, peer.path, peer.sid, 1, to, {'text': 'clear'})
def why(act):
    try:
        return act() and 'accepted'
    except Refused as refused:
        return str(refused)
header = peer.header(log, 1, WHISPER, scope, 0, to, sealed.key_id(encryption_key(peer.keys['encryption'])))
ct = sealed.seal_whisper(encryption_key(peer.keys['encryption']), header, cbor({'text': 'sealed'}), bytes(32))
print(json.dumps({
    'peer': why(lambda: peer.verify(log, clear)),
    'server': json.loads(why(lambda: peer.request('append', log=b64(log), env=clear)))['code'],
    'sealed': why(lambda: peer.append(log, header, bytes(24), ct)),
}))
";

#[test]
fn s14_a_whisper_in_the_clear_is_refused_by_the_server_and_by_the_peer() {
    let Some(mut python) = python("cryptography") else {
        return;
    };
    let alice = Home::new();
    let (_server, url) = open_server(&alice);
    alice
        .run(&["channel", "create", "lobby", "--visibility", "public"])
        .ok();
    python.args(["-c", WHISPER_IN_THE_CLEAR, &url]);
    let (told, _) = Background::start(python);
    let told = told.line();
    assert_eq!(told["server"], "mode", "{told}");
    let why = told["peer"].as_str().unwrap();
    assert!(why.contains("not sealed"), "{told}");
    assert_eq!(told["sealed"], "accepted", "{told}");
}

/// Opens what it is given on standard input, then the same with one bit changed at a time.
const OPEN_ENVELOPES: &str = "
import sys, json
from signed import b64, unb64, open_envelope, seal
from wire import Refused
seed, sid = bytes(range(32)), bytes(8)
env = seal(seed, 1, bytes(16), 'pia/python/peer', sid, 1, b'', {'text': 'so it is'})
head, body = open_envelope(env)
assert (head.path, head.ctr, body) == ('pia/python/peer', 1, {'text': 'so it is'})
accepted = 0
for part in env:
    raw = unb64(env[part])
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:]
        try:
            open_envelope(env | {part: b64(changed)})
            accepted += 1
        except Refused:
            pass
print(json.dumps({'accepted': accepted}))
";

#[test]
fn the_python_peer_opens_no_envelope_in_which_a_bit_was_changed() {
    let Some(mut python) = python("cryptography") else {
        return;
    };
    let (told, _) = Background::start({
        python.args(["-c", OPEN_ENVELOPES]);
        python
    });
    assert_eq!(told.line(), json!({"accepted": 0}));
}

/// Changes one byte, character or number of the vectors at a time and checks the vector again.
const SPOIL_VECTORS: &str = r#"
import copy, json, re
import vectors

def leaves(at):
    items = at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ()
    for place, leaf in items:
        if isinstance(leaf, (dict, list)):
            yield from leaves(leaf)
        else:
            yield at, place, leaf

def changes(leaf):
    if isinstance(leaf, int):
        yield leaf + 1
    elif re.fullmatch("([0-9a-f]{2})+", leaf):
        for i in range(0, len(leaf), 2):
            yield f"{leaf[:i]}{int(leaf[i : i + 2], 16) ^ 8:02x}{leaf[i + 2 :]}"
    else:
        for i, char in enumerate(leaf):
            yield leaf[:i] + chr(ord(char) ^ 1) + leaf[i + 1 :]

changed, accepted = 0, []
with open(vectors.VECTORS, encoding="utf-8") as file:
    groups = json.load(file)
for group, each in groups.items():
    for n, vector in enumerate(each):
        for at, place, leaf in leaves(vector):
            for other in changes(leaf):
                at[place] = other
                changed += 1
                try:
                    vectors.CHECKS[group](vector)
                    accepted.append([group, n, place, other])
                except Exception:
                    pass
            at[place] = leaf
        vectors.CHECKS[group](vector)
print(json.dumps({"many": changed > 5000, "accepted": accepted}))
"#;

#[test]
fn what_is_sealed_and_derived_is_made_and_opened_by_another_implementation() {
    let Some(mut python) = python("cryptography") else {
        return;
    };
    python.arg("vectors.py");
    let (told, _) = Background::start(python);
    let checked = told.line()["checked"].as_u64().unwrap();
    assert!(checked >= 36, "{checked}");
}

#[test]
fn no_vector_passes_in_python_with_a_changed_byte() {
    let Some(mut python) = python("cryptography") else {
        return;
    };
    python.args(["-c", SPOIL_VECTORS]);
    let (told, _) = Background::start(python);
    assert_eq!(told.line(), json!({"many": true, "accepted": []}));
}

#[test]
fn two_bridges_work_under_a_stock_mcp_client() {
    let Some(mut python) = python("mcp") else {
        return;
    };
    let up = Up::start();
    let home = up.home.path().display().to_string();
    let program = env!("CARGO_BIN_EXE_conclave");
    python.args([
        "two_sessions.py",
        "--program",
        program,
        "--config-dir",
        &home,
    ]);
    let ran: Child = python.stderr(Stdio::piped()).spawn().unwrap();
    let output = ran.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let talked = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{talked}");
    for part in [
        "| The endpoint is live.",
        "\"from\": \"alice/desk/web\"",
        "\"kind\": \"whisper\"",
        "| Thank you.",
        "there: alice/desk/api, alice/desk/web",
    ] {
        assert!(
            told.contains(part),
            "{part} is missing in:\n{told}\n{talked}"
        );
    }
}
