//! One story and random writes, against every store: they agree in every outcome and every page.

use conclave_proto::entry::{Envelope, Header, Parsed, Route, Suite};
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::EntryPage;
use conclave_proto::id::{
    Blob, ChannelId, EnvelopeNonce, LogId, MailboxId, MsgId, RecipientKeyId, SealedKey, SenderSid,
    SlotId, UserId,
};
use conclave_proto::key::{HolderKey, MachineKey, Signature};
use conclave_proto::limit::WRAPS_MAX;
use conclave_proto::time::UnixMs;
use conclave_server::audit;
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;
use conclave_server::store::{
    AnnouncementRow, Bound, CursorRow, Outcome, Page, PageQuery, Read as _, Select, Store, Write,
};
use proptest::prelude::*;

const CHANNEL: ChannelId = ChannelId::new([7; 16]);
const MAILBOX: MailboxId = MailboxId::new([9; 16]);

fn env(sender: u8, ctr: u64, msg: u8, route: Route, text: &str) -> Box<Parsed> {
    let header = Header {
        suite: Suite::Clear,
        channel: CHANNEL,
        epoch: 0,
        sender: "ana/laptop/work".parse().unwrap(),
        sender_key: MachineKey::new([sender; 32]),
        sid: SenderSid::new([sender; 8]),
        ctr,
        msg_id: MsgId::new([msg; 16]),
        ts: UnixMs(5),
        route,
        recipient_key: RecipientKeyId::new([0; 8]),
        hop: 0,
        flags: 0,
    };
    let envelope = Envelope {
        header: header.to_bytes(),
        nonce: EnvelopeNonce::new([0; 24]),
        ct: text.as_bytes().into(),
        sig: Signature::new([3; 64]),
    };
    Box::new(Parsed { header, envelope })
}

fn append(sender: u8, ctr: u64, msg: u8, route: Route, text: &str) -> Write {
    Write::Append {
        log: LogId::Channel(CHANNEL),
        env: env(sender, ctr, msg, route, text),
        bound: None,
    }
}

fn say(sender: u8, ctr: u64, msg: u8) -> Write {
    append(sender, ctr, msg, Route::Everyone, "hello")
}

fn whisper(ctr: u64, msg: u8) -> Write {
    Write::Append {
        log: LogId::Mailbox(MAILBOX),
        env: env(
            1,
            ctr,
            msg,
            Route::Whisper("bob/pc/x".parse().unwrap()),
            "psst",
        ),
        bound: Some(Bound {
            reader: MAILBOX,
            items: 2,
            bytes: 100_000,
        }),
    }
}

fn ctl(text: &str) -> Write {
    Write::Ctl {
        channel: CHANNEL,
        rec: Blob::from(text.as_bytes()),
    }
}

fn mailbox() -> Write {
    Write::Mailbox {
        mailbox: MAILBOX,
        user: UserId::new([2; 32]),
        path: "bob/pc/x".parse().unwrap(),
    }
}

fn page(store: &mut dyn Store, log: LogId, after: u64, select: Select) -> EntryPage {
    let query = PageQuery::Log {
        log,
        after,
        limit: 256,
        select,
    };
    match store.page(&query).unwrap() {
        Page::Entries(page) => page,
        Page::Audit(_) | Page::Wraps(_) | Page::Cursors(_) => panic!("asked for entries"),
    }
}

/// Runs a test against a store of each kind.
fn each(test: impl Fn(&mut dyn Store)) {
    test(&mut MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    test(&mut SqliteStore::open(&dir.path().join("store.db")).unwrap());
}

fn one(store: &mut dyn Store, at: u64, write: Write) -> Outcome {
    store.commit(UnixMs(at), &[write]).unwrap()[0]
}

#[test]
fn entries_get_dense_places_and_duplicates_their_first_one() {
    each(|store| {
        let batch = [ctl("create"), say(1, 1, 1), say(1, 2, 2), say(2, 1, 3)];
        let outcomes = store.commit(UnixMs(10), &batch).unwrap();
        let seqs: Vec<_> = (1..=4).map(|seq| Outcome::Appended { seq }).collect();
        assert_eq!(outcomes, seqs);
        let first = Outcome::Duplicate {
            seq: 2,
            at: UnixMs(10),
        };
        assert_eq!(one(store, 20, say(1, 1, 1)), first);
        let other = append(1, 3, 1, Route::Everyone, "other bytes");
        assert_eq!(one(store, 20, other), Outcome::IdReuse);
        assert_eq!(page(store, LogId::Channel(CHANNEL), 0, Select::All).head, 4);
    });
}

#[test]
fn a_refused_entry_inside_a_pipelined_window_refuses_what_follows_it() {
    each(|store| {
        one(store, 1, ctl("create"));
        let batch = [say(1, 1, 1), say(1, 3, 3), say(1, 4, 4), say(1, 2, 2)];
        let outcomes = store.commit(UnixMs(2), &batch).unwrap();
        let gap = Outcome::CounterGap { expected: 2 };
        let places = [
            Outcome::Appended { seq: 2 },
            gap,
            gap,
            Outcome::Appended { seq: 3 },
        ];
        assert_eq!(outcomes, places);
    });
}

#[test]
fn a_slot_is_written_only_at_the_version_that_was_read() {
    each(|store| {
        one(store, 1, ctl("create"));
        let slot = SlotId::new([1; 16]);
        let set = |ctr, msg, version| append(1, ctr, msg, Route::State(slot, version), "v");
        assert_eq!(one(store, 1, set(1, 1, 0)), Outcome::Appended { seq: 2 });
        let taken = Outcome::VersionMismatch { current: 2 };
        assert_eq!(one(store, 1, set(2, 2, 0)), taken);
        assert_eq!(one(store, 1, set(2, 2, 2)), Outcome::Appended { seq: 3 });
        assert_eq!(
            one(store, 1, set(3, 3, u64::MAX)),
            Outcome::Appended { seq: 4 }
        );
    });
}

#[test]
fn a_full_mailbox_refuses_until_its_owner_reads() {
    each(|store| {
        assert_eq!(one(store, 1, whisper(1, 1)), Outcome::NoLog);
        one(store, 1, mailbox());
        assert_eq!(one(store, 1, whisper(1, 1)), Outcome::Appended { seq: 1 });
        assert_eq!(one(store, 1, whisper(2, 2)), Outcome::Appended { seq: 2 });
        assert_eq!(one(store, 1, whisper(3, 3)), Outcome::InboxFull);
        let cursor = Write::Cursor {
            log: LogId::Mailbox(MAILBOX),
            reader: MAILBOX,
            seq: 1,
        };
        one(store, 1, cursor);
        assert_eq!(one(store, 1, whisper(3, 3)), Outcome::Appended { seq: 3 });
    });
}

#[test]
fn cursors_of_a_log_name_their_sessions_the_farthest_first_and_never_move_back() {
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        let cursors = |store: &mut dyn Store| match store.page(&PageQuery::Cursors { log }) {
            Ok(Page::Cursors(rows)) => {
                let row = |row: &CursorRow| (row.user, row.path.to_string(), row.seq);
                rows.iter().map(row).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(cursors(store), []);
        let other = MailboxId::new([8; 16]);
        let batch = [
            ctl("create"),
            mailbox(),
            Write::Mailbox {
                mailbox: other,
                user: UserId::new([3; 32]),
                path: "carol/pc/x".parse().unwrap(),
            },
        ];
        store.commit(UnixMs(1), &batch).unwrap();
        for (reader, seq) in [(MAILBOX, 4), (other, 7), (MAILBOX, 2)] {
            one(store, 1, Write::Cursor { log, reader, seq });
        }
        let reader = MAILBOX;
        let log = LogId::Mailbox(MAILBOX);
        one(
            store,
            1,
            Write::Cursor {
                log,
                reader,
                seq: 9,
            },
        );
        let expected = [
            (UserId::new([3; 32]), "carol/pc/x".to_owned(), 7),
            (UserId::new([2; 32]), "bob/pc/x".to_owned(), 4),
        ];
        assert_eq!(cursors(store), expected);
    });
}

#[test]
fn what_retention_removed_is_one_gap_and_control_records_stay() {
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        let batch = [ctl("create"), say(1, 1, 1), ctl("add"), say(1, 2, 2)];
        store.commit(UnixMs(10), &batch).unwrap();
        one(store, 90, say(1, 3, 3));
        let expire = Write::Expire {
            log,
            before: UnixMs(50),
            steps: 100,
        };
        let kept = Outcome::Expired {
            oldest: 5,
            at: Some(UnixMs(90)),
        };
        assert_eq!(one(store, 100, expire), kept);
        let page = page(store, log, 0, Select::All);
        let seqs: Vec<u64> = page.entries.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, [1, 3, 5]);
        let gap = page.gap.unwrap();
        assert_eq!((gap.from, gap.to, gap.missing), (2, 4, 2));
        assert_eq!(gap.reason, "retention");
    });
}

#[test]
fn replaced_state_and_retracted_memory_go_when_old_and_leave_a_gap_of_another_name() {
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        let slot = |ctr, msg| {
            let route = Route::State(SlotId::new([1; 16]), u64::MAX);
            append(1, ctr, msg, route, "v")
        };
        let memory = |ctr, msg, item, op| {
            append(1, ctr, msg, Route::Memory(MsgId::new([item; 16]), op), "m")
        };
        let old = [
            ctl("create"),
            say(1, 1, 1),
            slot(2, 2),
            slot(3, 3),
            memory(4, 4, 8, 0),
            memory(5, 5, 9, 0),
            memory(6, 6, 8, 1),
        ];
        store.commit(UnixMs(10), &old).unwrap();
        let expire = || Write::Expire {
            log,
            before: UnixMs(50),
            steps: 100,
        };
        one(store, 100, expire());
        let all = page(store, log, 0, Select::All);
        let seqs: Vec<u64> = all.entries.iter().map(|e| e.seq).collect();
        assert_eq!(
            seqs,
            [1, 4, 6, 7],
            "the retraction stays, and what is not retracted"
        );
        assert_eq!(all.gap.unwrap().reason, "retention");
        let later = page(store, log, 2, Select::All).gap.unwrap();
        assert_eq!(later.reason, "compacted", "no message is missing there");
        assert_eq!((later.from, later.to, later.missing), (3, 5, 2));
        // What is old already goes at once.
        let retracted = one(store, 100, memory(7, 7, 9, 1));
        assert_eq!(retracted, Outcome::Appended { seq: 8 });
        let rest = page(store, log, 5, Select::All);
        assert_eq!(rest.entries.len(), 2);
        assert_eq!(rest.gap.unwrap().reason, "compacted");
    });
}

#[test]
fn items_are_the_newest_entry_of_each_slot_and_of_each_authors_memory_in_pages() {
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        let slot = |ctr, msg, slot| {
            let route = Route::State(SlotId::new([slot; 16]), u64::MAX);
            append(1, ctr, msg, route, "v")
        };
        let memory = |ctr, msg, item, op| {
            append(1, ctr, msg, Route::Memory(MsgId::new([item; 16]), op), "m")
        };
        let mut retraction = env(2, 1, 50, Route::Memory(MsgId::new([8; 16]), 1), "m");
        retraction.header.sender = "bob/laptop/work".parse().unwrap();
        retraction.envelope.header = retraction.header.to_bytes();
        let batch = [
            ctl("create"),
            slot(1, 1, 1),
            say(1, 2, 2),
            slot(3, 3, 2),
            memory(4, 4, 8, 0),
            memory(5, 5, 9, 0),
            slot(6, 6, 1),
            memory(7, 7, 9, 1),
            Write::Append {
                log,
                env: retraction,
                bound: None,
            },
            say(1, 8, 8),
        ];
        store.commit(UnixMs(10), &batch).unwrap();
        let items = |store: &mut dyn Store, after, limit| {
            let query = PageQuery::Log {
                log,
                after,
                limit,
                select: Select::Items,
            };
            let Ok(Page::Entries(page)) = store.page(&query) else {
                panic!("no page");
            };
            assert_eq!((page.head, &page.gap), (10, &None));
            let seqs: Vec<u64> = page.entries.iter().map(|e| e.seq).collect();
            (seqs, page.next)
        };
        assert_eq!(items(store, 0, 256), (vec![4, 5, 7, 8, 9], 10));
        assert_eq!(items(store, 0, 2), (vec![4, 5], 5));
        assert_eq!(items(store, 5, 2), (vec![7, 8], 8));
        assert_eq!(items(store, 8, 2), (vec![9], 10));
        assert_eq!(items(store, 10, 2), (vec![], 10));
        one(
            store,
            99,
            Write::Expire {
                log,
                before: UnixMs(50),
                steps: 99,
            },
        );
        assert_eq!(items(store, 0, 256), (vec![4, 5, 7, 8, 9], 10));
        one(store, 99, Write::Delete { log });
        assert_eq!(items(store, 0, 256), (vec![], 10));
    });
}

#[test]
fn items_are_found_without_a_look_at_every_entry() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    drop(SqliteStore::open(&file).unwrap());
    let db = rusqlite::Connection::open(&file).unwrap();
    let sql = include_str!("../../src/store/sqlite/read.rs");
    let (_, sql) = sql.split_once("Select::Items => {").unwrap();
    let sql = sql.split('"').nth(1).unwrap();
    let plan = format!("EXPLAIN QUERY PLAN {sql}");
    let mut plan = db.prepare(&plan).unwrap();
    let steps = plan.query_map([1, 2], |row| row.get::<_, String>(3));
    let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
    let expected = [
        "SEARCH slot USING COVERING INDEX slot_seq (log=? AND seq>? AND seq<?)",
        "SEARCH entry USING INDEX entry_place (place=?)",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_senders_counter_outlives_its_messages_by_weeks() {
    const DAY: u64 = 86_400_000;
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        one(store, 100 * DAY, ctl("create"));
        one(store, 100 * DAY, say(1, 1, 1));
        let expire = |now| Write::Expire {
            log,
            before: UnixMs(now),
            steps: 9,
        };
        one(store, 101 * DAY, expire(101 * DAY));
        let seqs = page(store, log, 0, Select::All).entries;
        assert_eq!(seqs.len(), 1, "the message went");
        let used = Outcome::CounterGap { expected: 2 };
        assert_eq!(one(store, 101 * DAY, say(1, 1, 2)), used);
        let place = Outcome::Appended { seq: 3 };
        assert_eq!(one(store, 101 * DAY, say(1, 2, 2)), place);
        one(store, 131 * DAY + 1, expire(131 * DAY + 1));
        let place = Outcome::Appended { seq: 4 };
        assert_eq!(one(store, 131 * DAY + 1, say(1, 1, 3)), place);
    });
}

#[test]
fn a_reopened_database_has_everything_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let mut store = SqliteStore::open(&file).unwrap();
    store
        .commit(UnixMs(1), &[ctl("create"), say(1, 1, 1), mailbox()])
        .unwrap();
    let reader = store.reader().unwrap();
    let (before, audit) = (store.load().unwrap(), one(&mut store, 1, audit_row("a")));
    // As a killed process leaves it: neither checkpointed nor closed.
    let copy = dir.path().join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    std::fs::copy(
        dir.path().join("store.db-wal"),
        dir.path().join("copy.db-wal"),
    )
    .unwrap();
    drop(reader);
    let mut again = SqliteStore::open(&copy).unwrap();
    let after = again.load().unwrap();
    assert_eq!(after.logs, before.logs);
    assert_eq!(after.ctl, before.ctl);
    assert!(matches!(audit, Outcome::Audited(head) if Some(head) == after.audit));
    let first = Outcome::Duplicate {
        seq: 2,
        at: UnixMs(1),
    };
    assert_eq!(one(&mut again, 2, say(1, 1, 1)), first);
    assert_eq!(
        one(&mut again, 2, say(1, 2, 2)),
        Outcome::Appended { seq: 3 }
    );
}

#[test]
fn a_message_of_200_bytes_takes_at_most_900_bytes_of_disk() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let mut store = SqliteStore::open(&file).unwrap();
    one(&mut store, 1, ctl("create"));
    let text = "x".repeat(300);
    for round in 0..40_u64 {
        let batch: Vec<Write> = (0..250)
            .map(|i| {
                let ctr = round * 250 + i + 1;
                let mut env = env(1, ctr, 0, Route::Everyone, &text);
                let mut id = [0; 16];
                // Spread like random ids.
                id[..8].copy_from_slice(&ctr.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
                env.header.msg_id = MsgId::new(id);
                env.envelope.header = env.header.to_bytes();
                let log = LogId::Channel(CHANNEL);
                Write::Append {
                    log,
                    env,
                    bound: None,
                }
            })
            .collect();
        let outcomes = store.commit(UnixMs(2), &batch).unwrap();
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, Outcome::Appended { .. }))
        );
    }
    drop(store);
    let bytes = std::fs::metadata(&file).unwrap().len();
    assert!(bytes < 900 * 10_000, "{} bytes a message", bytes / 10_000);
}

fn audit_row(text: &str) -> Write {
    Write::Audit {
        entry: text.to_owned(),
    }
}

#[test]
fn a_changed_audit_row_is_named() {
    each(|store| {
        let rows: Vec<Write> = ["a", "b", "c"].map(audit_row).into();
        store.commit(UnixMs(1), &rows).unwrap();
        let all = PageQuery::Audit { after: 0, limit: 9 };
        let Page::Audit(mut page) = store.page(&all).unwrap() else {
            panic!("asked for the audit log");
        };
        assert_eq!(audit::verify(None, &page.rows), None);
        page.rows[1].entry = "B".to_owned();
        assert_eq!(audit::verify(None, &page.rows), Some(2));
        let last = PageQuery::Audit { after: 2, limit: 9 };
        let Page::Audit(tail) = store.page(&last).unwrap() else {
            panic!("asked for the audit log");
        };
        assert_eq!(tail.rows[0], page.rows[2]);
    });
}

fn holder(n: u8) -> HolderKey {
    HolderKey::new([n; 32])
}

/// The announcement of this holder's key, each generation signed once.
fn key(n: u8, generation: u32) -> Write {
    Write::Announcement(AnnouncementRow {
        holder: holder(n),
        user: UserId::new([n; 32]),
        generation,
        rec: Blob::from(format!("{n} {generation}").as_bytes()),
    })
}

/// A wrap that says by its generation how many came before it.
fn wrap_made(e: u32, to: u8, generation: u32) -> Write {
    let (to, sealed) = (holder(to), SealedKey::new([3; 80]));
    let wraps = vec![Wrap {
        to,
        generation,
        sealed,
    }];
    Write::Wraps {
        channel: CHANNEL,
        e,
        wraps,
    }
}

fn wrap(e: u32, to: u8) -> Write {
    wrap_made(e, to, 0)
}

fn unwrap(to: u8, epochs: &[u32]) -> Write {
    Write::Unwrap {
        channel: CHANNEL,
        holder: holder(to),
        epochs: epochs.to_vec(),
    }
}

/// Epoch and generation of a holder's wraps.
fn wraps(store: &mut dyn Store, to: u8, from: u32) -> Vec<(u32, u32)> {
    let query = PageQuery::Wraps {
        channel: CHANNEL,
        holder: holder(to),
        from,
    };
    match store.page(&query).unwrap() {
        Page::Wraps(wraps) => wraps.iter().map(|w| (w.e, w.generation)).collect(),
        Page::Entries(_) | Page::Audit(_) | Page::Cursors(_) => panic!("asked for wraps"),
    }
}

#[test]
fn the_first_wrap_of_an_epoch_stays_until_its_holder_throws_it_away() {
    each(|store| {
        assert_eq!(one(store, 1, wrap(1, 1)), Outcome::NoLog);
        one(store, 1, ctl("create"));
        let batch = [wrap(1, 1), wrap(2, 1), wrap(2, 2), wrap_made(1, 1, 9)];
        store.commit(UnixMs(1), &batch).unwrap();
        assert_eq!(wraps(store, 1, 0), [(1, 0), (2, 0)]);
        assert_eq!(wraps(store, 1, 2), [(2, 0)]);
        assert_eq!(wraps(store, 3, 0), []);
        one(store, 1, unwrap(1, &[1, 7]));
        one(store, 1, wrap_made(1, 1, 9));
        assert_eq!(wraps(store, 1, 0), [(1, 9), (2, 0)]);
        let newest = [1, 2].map(|to| (CHANNEL, 2, holder(to)));
        assert_eq!(store.load().unwrap().wrapped, newest);
        let log = LogId::Channel(CHANNEL);
        one(store, 1, Write::Delete { log });
        assert_eq!(wraps(store, 2, 0), []);
        assert_eq!(store.load().unwrap().wrapped, []);
    });
}

#[test]
fn one_answer_holds_a_bounded_number_of_wraps() {
    each(|store| {
        one(store, 1, ctl("create"));
        let most = u32::try_from(WRAPS_MAX).unwrap();
        let batch: Vec<Write> = (1..=most + 5).map(|e| wrap(e, 1)).collect();
        store.commit(UnixMs(1), &batch).unwrap();
        assert_eq!(wraps(store, 1, 1).len(), WRAPS_MAX);
        assert_eq!(wraps(store, 1, most).len(), 6);
    });
}

#[test]
fn only_a_later_generation_replaces_an_announced_key() {
    each(|store| {
        for (generation, kept) in [(2, 2), (1, 2), (3, 3)] {
            one(store, 1, key(1, generation));
            let rows = store.load().unwrap().announcements;
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].generation, kept);
            assert_eq!(rows[0].rec, Blob::from(format!("1 {kept}").as_bytes()));
        }
        let Write::Announcement(mut other) = key(1, 3) else {
            panic!("an announcement");
        };
        other.rec = Blob::from(&b"of the same generation"[..]);
        one(store, 1, Write::Announcement(other));
        assert_eq!(
            store.load().unwrap().announcements[0].rec,
            Blob::from(&b"1 3"[..])
        );
    });
}

#[test]
fn what_was_stored_is_recalled_by_the_very_same_bytes_and_nothing_else_is() {
    each(|store| {
        let log = LogId::Channel(CHANNEL);
        let recall = |sender, text: &str| Write::Recall {
            log,
            env: env(sender, 1, 1, Route::Everyone, text),
        };
        assert_eq!(one(store, 1, recall(1, "hello")), Outcome::Done);
        one(store, 1, ctl("create"));
        assert_eq!(one(store, 1, recall(1, "hello")), Outcome::Done);
        one(store, 7, say(1, 1, 1));
        let (seq, at) = (2, UnixMs(7));
        let first = Outcome::Duplicate { seq, at };
        assert_eq!(one(store, 9, recall(1, "hello")), first);
        assert_eq!(one(store, 9, recall(1, "other bytes")), Outcome::Done);
        assert_eq!(one(store, 9, recall(2, "hello")), Outcome::Done);
        let elsewhere = Write::Recall {
            log: LogId::Mailbox(MAILBOX),
            env: env(1, 1, 1, Route::Everyone, "hello"),
        };
        one(store, 9, mailbox());
        assert_eq!(one(store, 9, elsewhere), Outcome::Done);
        assert_eq!(page(store, log, 0, Select::All).head, 2);
    });
}

fn any_write() -> impl Strategy<Value = Write> {
    let route = prop_oneof![
        3 => Just(Route::Everyone),
        2 => (0_u8..3, prop_oneof![Just(0), Just(u64::MAX), 1_u64..6])
            .prop_map(|(slot, version)| Route::State(SlotId::new([slot; 16]), version)),
        1 => (0_u8..3).prop_map(|item| Route::Memory(MsgId::new([item; 16]), item % 2)),
    ];
    let log = prop_oneof![Just(LogId::Channel(CHANNEL)), Just(LogId::Mailbox(MAILBOX))];
    prop_oneof![
        12 => (0_u8..2, 1_u64..6, 0_u8..12, route, 0_usize..2)
            .prop_map(|(s, ctr, msg, route, t)| append(s, ctr, msg, route, ["a", "b"][t])),
        4 => (1_u64..6, 0_u8..8).prop_map(|(ctr, msg)| whisper(ctr, msg)),
        2 => Just(ctl("ctl")),
        2 => Just(mailbox()),
        1 => Just(audit_row("row")),
        2 => (0_u8..3, 1_u32..4).prop_map(|(n, generation)| key(n, generation)),
        4 => (1_u32..4, 0_u8..3, 0_u32..9).prop_map(|(e, to, made)| wrap_made(e, to, made)),
        1 => (0_u8..3, 1_u32..4).prop_map(|(to, e)| unwrap(to, &[e])),
        2 => (1_u64..6, 0_u8..12).prop_map(|(ctr, msg)| Write::Recall {
            log: LogId::Channel(CHANNEL),
            env: env(1, ctr, msg, Route::Everyone, "a"),
        }),
        1 => (log.clone(), 0_u64..9).prop_map(|(log, seq)| Write::Cursor { log, reader: MAILBOX, seq }),
        2 => (log.clone(), 0_u64..40, 1_u32..4)
            .prop_map(|(log, before, steps)| Write::Expire { log, before: UnixMs(before), steps }),
        1 => (log, any::<bool>()).prop_map(|(log, frozen)| Write::Freeze { log, frozen }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_writes_have_the_same_outcomes_in_every_store(
        batches in prop::collection::vec(prop::collection::vec(any_write(), 1..8), 1..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = MemoryStore::new();
        let mut sqlite = SqliteStore::open(&dir.path().join("store.db")).unwrap();
        for (i, batch) in batches.iter().enumerate() {
            let at = UnixMs(i as u64 * 3 + 1);
            let mut batch = batch.clone();
            for write in &mut batch {
                if let Write::Expire { before, .. } = write {
                    // Nothing that is stored now can be old already.
                    *before = at.min(*before);
                }
            }
            let expected = memory.commit(at, &batch).unwrap();
            prop_assert_eq!(sqlite.commit(at, &batch).unwrap(), expected);
        }
        for log in [LogId::Channel(CHANNEL), LogId::Mailbox(MAILBOX)] {
            for after in 0..4 {
                for select in [Select::All, Select::Ctl, Select::Items] {
                    let expected = page(&mut memory, log, after, select);
                    prop_assert_eq!(page(&mut sqlite, log, after, select), expected);
                }
            }
        }
        for log in [LogId::Channel(CHANNEL), LogId::Mailbox(MAILBOX)] {
            let query = PageQuery::Cursors { log };
            prop_assert_eq!(sqlite.page(&query).unwrap(), memory.page(&query).unwrap());
        }
        for to in 0..3 {
            prop_assert_eq!(wraps(&mut sqlite, to, 0), wraps(&mut memory, to, 0));
        }
        let (mut expected, mut found) = (memory.load().unwrap(), sqlite.load().unwrap());
        // The time of the newest entry is that of the newest commit in the store that forgets.
        (expected.at, found.at) = (UnixMs(0), UnixMs(0));
        prop_assert_eq!(found, expected);
    }
}

/// Undoes what each layout brought, the newest first.
const BACK: [&str; 3] = [
    "DROP INDEX slot_seq; PRAGMA user_version = 3;",
    "DROP TABLE ek; DROP TABLE wrap; PRAGMA user_version = 2;",
    "ALTER TABLE log DROP COLUMN lapsed; PRAGMA user_version = 1;",
];

#[test]
fn a_database_of_every_older_layout_is_brought_up_to_this_one() {
    for steps in 0..=BACK.len() {
        older_layout(steps);
    }
}

fn older_layout(back: usize) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let mut store = SqliteStore::open(&file).unwrap();
    let item = append(1, 3, 3, Route::State(SlotId::new([1; 16]), 0), "v");
    let batch = [ctl("create"), say(1, 1, 1), say(1, 2, 2), item];
    store.commit(UnixMs(1), &batch).unwrap();
    let log = LogId::Channel(CHANNEL);
    let (before, steps) = (UnixMs(50), 1);
    for _ in 0..2 {
        one(&mut store, 100, Write::Expire { log, before, steps });
    }
    drop(store);
    let old = rusqlite::Connection::open(&file).unwrap();
    for step in &BACK[..back] {
        old.execute_batch(step).unwrap();
    }
    drop(old);
    for _ in 0..2 {
        let mut store = SqliteStore::open(&file).unwrap();
        let items = page(&mut store, log, 0, Select::Items).entries;
        assert_eq!(items.iter().map(|e| e.seq).collect::<Vec<_>>(), [4]);
        let page = page(&mut store, log, 0, Select::All);
        assert_eq!(page.entries.len(), 3);
        assert_eq!(page.gap.unwrap().reason, "retention");
        store.commit(UnixMs(2), &[key(1, 1), wrap(1, 1)]).unwrap();
        let kept = store.load().unwrap();
        assert_eq!((kept.announcements.len(), kept.wrapped.len()), (1, 1));
    }
}
