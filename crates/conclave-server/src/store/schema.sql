-- Entries lie in the order of their arrival, which is the fastest to append to; `place` is
-- (log << 40 | seq). `mid` is a salted 8-byte hash of log and message id, NULL for control records.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE log (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user BLOB,
    path TEXT,
    head INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER NOT NULL DEFAULT 1,
    lapsed INTEGER NOT NULL DEFAULT 0,
    frozen INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE entry (
    pos INTEGER PRIMARY KEY,
    place INTEGER NOT NULL,
    mid INTEGER,
    at INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX entry_place ON entry (place);
CREATE INDEX entry_mid ON entry (mid) WHERE mid IS NOT NULL;
CREATE INDEX entry_ctl ON entry (place) WHERE mid IS NULL;
CREATE TABLE counter (
    log INTEGER NOT NULL,
    sender BLOB NOT NULL,
    ctr INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (log, sender)
) WITHOUT ROWID;
CREATE TABLE slot (
    log INTEGER NOT NULL,
    slot BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (log, slot)
) WITHOUT ROWID;
CREATE INDEX slot_seq ON slot (log, seq);
CREATE TABLE cursor (
    log INTEGER NOT NULL,
    reader BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (log, reader)
) WITHOUT ROWID;
CREATE TABLE ident (
    user BLOB NOT NULL,
    n INTEGER NOT NULL,
    rec BLOB NOT NULL,
    PRIMARY KEY (user, n)
) WITHOUT ROWID;
CREATE TABLE standing (
    user BLOB PRIMARY KEY,
    admin INTEGER NOT NULL,
    removed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE server_invite (
    invite BLOB PRIMARY KEY,
    key BLOB NOT NULL,
    minter BLOB NOT NULL,
    uses_left INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE redeemed (invite BLOB PRIMARY KEY, accounts INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE invite_box (invite BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE audit (n INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash BLOB NOT NULL);
