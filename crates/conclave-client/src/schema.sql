-- One replica per machine and server, shared by its sessions. Only what was verified is in here.
CREATE TABLE IF NOT EXISTS ident (
    user BLOB NOT NULL,
    n INTEGER NOT NULL,
    rec BLOB NOT NULL,
    PRIMARY KEY (user, n)
) WITHOUT ROWID;
-- Names as first seen. `changed`: another id came under the same name later.
CREATE TABLE IF NOT EXISTS name (
    name TEXT PRIMARY KEY,
    user BLOB NOT NULL,
    verified INTEGER NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
-- Control records by their number in the chain: a server cannot put one in two places.
CREATE TABLE IF NOT EXISTS ctl (
    log BLOB NOT NULL,
    c INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    rec BLOB NOT NULL,
    PRIMARY KEY (log, c)
) WITHOUT ROWID;
-- The first record of every channel ever verified here, and how far its chain was seen. Outlives the
-- chain itself: whatever happens to that, no other channel is taken for this one, and no shorter chain.
CREATE TABLE IF NOT EXISTS channel_pin (
    log BLOB PRIMARY KEY,
    genesis BLOB NOT NULL,
    c INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    log BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    id BLOB NOT NULL,
    sender TEXT NOT NULL,
    user BLOB NOT NULL,
    key BLOB NOT NULL,
    sid BLOB NOT NULL,
    ctr INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    hop INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL,
    route BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (log, seq)
);
CREATE UNIQUE INDEX IF NOT EXISTS message_place ON message (id, log);
CREATE INDEX IF NOT EXISTS message_ctr ON message (log, key, sid, ctr, seq);
-- How far a handle has received a log, and from where on it counts what is unread.
CREATE TABLE IF NOT EXISTS feed (
    handle TEXT NOT NULL,
    log BLOB NOT NULL,
    start INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (handle, log)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS feed_log ON feed (log);
CREATE TABLE IF NOT EXISTS shown (
    handle TEXT NOT NULL,
    log BLOB NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (handle, log, id)
) WITHOUT ROWID;
-- What a handle does not get in one log: not for it, or muted there. The same words in another log are.
CREATE TABLE IF NOT EXISTS passed (
    handle TEXT NOT NULL,
    log BLOB NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (handle, log, id)
) WITHOUT ROWID;
-- From which seq on a channel's entries are held without holes, up to the newest cursor.
CREATE TABLE IF NOT EXISTS held (log BLOB PRIMARY KEY, first INTEGER NOT NULL) WITHOUT ROWID;
-- What waits to be sent: see outbox.rs. Several logs may get the same words under one id.
CREATE TABLE IF NOT EXISTS draft (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    handle TEXT NOT NULL,
    id BLOB NOT NULL,
    log BLOB NOT NULL,
    kind INTEGER NOT NULL,
    route BLOB NOT NULL,
    body BLOB NOT NULL,
    hop INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    created INTEGER NOT NULL,
    until INTEGER NOT NULL,
    sealed BLOB,
    UNIQUE (id, log)
);
-- Keys of channels (mode e2e), one an epoch; each is the one its record commits to.
CREATE TABLE IF NOT EXISTS channel_key (
    channel BLOB NOT NULL,
    e INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (channel, e)
) WITHOUT ROWID;
-- What members know of a channel and the server does not: index key, name, topic (CBOR).
CREATE TABLE IF NOT EXISTS channel_fact (channel BLOB PRIMARY KEY, bundle BLOB NOT NULL) WITHOUT ROWID;
-- The newest encryption key seen of a machine: nothing older is sealed to.
CREATE TABLE IF NOT EXISTS encryption_key (
    holder BLOB PRIMARY KEY,
    generation INTEGER NOT NULL,
    rec BLOB NOT NULL
) WITHOUT ROWID;
-- What this machine's handles said, in which logs, and what became of it for each recipient: see
-- replica/delivery.rs. `told`: the step that the handle's session was told of.
CREATE TABLE IF NOT EXISTS sent (
    id BLOB NOT NULL,
    log BLOB NOT NULL,
    handle TEXT NOT NULL,
    sender TEXT NOT NULL,
    created INTEGER NOT NULL,
    seq INTEGER,
    at INTEGER,
    PRIMARY KEY (id, log)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sent_created ON sent (created);
CREATE TABLE IF NOT EXISTS delivery (
    id BLOB NOT NULL,
    peer TEXT NOT NULL,
    log BLOB NOT NULL,
    handle TEXT NOT NULL,
    step INTEGER NOT NULL,
    at INTEGER NOT NULL,
    told INTEGER NOT NULL,
    PRIMARY KEY (id, peer)
) WITHOUT ROWID;
-- Other ways in which a message is to reach a recipient.
CREATE TABLE IF NOT EXISTS delivery_more (
    id BLOB NOT NULL,
    peer TEXT NOT NULL,
    log BLOB NOT NULL,
    PRIMARY KEY (id, peer, log)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS delivery_news ON delivery (handle) WHERE step <> told;
CREATE INDEX IF NOT EXISTS delivery_open ON delivery (handle, log) WHERE step <= 1;
CREATE INDEX IF NOT EXISTS delivery_log ON delivery (log) WHERE step <= 1;
CREATE INDEX IF NOT EXISTS delivery_peer ON delivery (peer, at) WHERE step >= 6;
-- Receipts that a handle owes to who asked for them: see replica/receipt.rs.
CREATE TABLE IF NOT EXISTS receipt (
    handle TEXT NOT NULL,
    sender TEXT NOT NULL,
    id BLOB NOT NULL,
    fate TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (handle, sender, id)
) WITHOUT ROWID;
-- The newest entry of each state slot, deleted ones included (no value).
CREATE TABLE IF NOT EXISTS state (
    log BLOB NOT NULL,
    slot BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    user BLOB NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (log, slot)
);
CREATE INDEX IF NOT EXISTS state_key ON state (log, key);
-- The newest entry of a slot that this machine cannot read: what its header says.
CREATE TABLE IF NOT EXISTS unreadable (
    log BLOB NOT NULL,
    slot BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    PRIMARY KEY (log, slot)
) WITHOUT ROWID;
-- The claim that stands in a slot, by the rules of claim/rule.rs; it may have lapsed.
CREATE TABLE IF NOT EXISTS claim (
    log BLOB NOT NULL,
    slot BLOB NOT NULL,
    resource TEXT NOT NULL,
    holder TEXT NOT NULL,
    user BLOB NOT NULL,
    token INTEGER NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    ttl_ms INTEGER NOT NULL,
    note TEXT,
    PRIMARY KEY (log, slot)
) WITHOUT ROWID;
-- Memories that nobody took back, and who took which back.
CREATE TABLE IF NOT EXISTS memory (
    n INTEGER PRIMARY KEY,
    log BLOB NOT NULL,
    item BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    user BLOB NOT NULL,
    text TEXT NOT NULL,
    tags TEXT NOT NULL,
    UNIQUE (log, item)
);
CREATE INDEX IF NOT EXISTS memory_seq ON memory (log, seq);
CREATE TABLE IF NOT EXISTS memory_gone (
    log BLOB NOT NULL,
    item BLOB NOT NULL,
    user BLOB NOT NULL,
    by_admin INTEGER NOT NULL,
    PRIMARY KEY (log, item, user)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS memory_text
    USING fts5(text, tags, content = 'memory', content_rowid = 'n', tokenize = 'porter unicode61');
CREATE TRIGGER IF NOT EXISTS memory_put AFTER INSERT ON memory BEGIN
    INSERT INTO memory_text (rowid, text, tags) VALUES (new.n, new.text, new.tags);
END;
CREATE TRIGGER IF NOT EXISTS memory_drop AFTER DELETE ON memory BEGIN
    INSERT INTO memory_text (memory_text, rowid, text, tags) VALUES ('delete', old.n, old.text, old.tags);
END;
-- Up to where all state items and memories of a channel are here.
CREATE TABLE IF NOT EXISTS items_held (log BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
-- Messages as a search finds them, by their rowid; made when somebody searches. One row in `indexed`.
CREATE VIRTUAL TABLE IF NOT EXISTS message_text
    USING fts5(text, content = '', tokenize = 'porter unicode61');
CREATE TABLE IF NOT EXISTS indexed (n INTEGER PRIMARY KEY CHECK (n = 1), upto INTEGER NOT NULL);
-- Parts of channels' pasts that were read for a search, without holes.
CREATE TABLE IF NOT EXISTS filled (
    log BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (log, first)
) WITHOUT ROWID;
-- How far the server's clock was ahead of this machine's when they last met, in milliseconds.
CREATE TABLE IF NOT EXISTS clock (n INTEGER PRIMARY KEY CHECK (n = 1), ahead INTEGER NOT NULL);
