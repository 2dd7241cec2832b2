-- The newest announced encryption key of each machine and owner key.
CREATE TABLE ek (
    holder BLOB PRIMARY KEY,
    user BLOB NOT NULL,
    gen INTEGER NOT NULL,
    rec BLOB NOT NULL
) WITHOUT ROWID;
-- Channel keys, each sealed to one holder.
CREATE TABLE wrap (
    log INTEGER NOT NULL,
    holder BLOB NOT NULL,
    e INTEGER NOT NULL,
    gen INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (log, holder, e)
) WITHOUT ROWID;
