-- One row per user, server and account. Texts are compared octet by octet.
CREATE TABLE grants (
    issuer               TEXT    NOT NULL,
    subject              TEXT    NOT NULL,
    server               TEXT    NOT NULL,
    account              TEXT    NOT NULL,
    id                   TEXT    NOT NULL UNIQUE,
    authorization_server TEXT    NOT NULL,
    granted              TEXT    NOT NULL,
    state                TEXT    NOT NULL,
    version              INTEGER NOT NULL,
    open_attempts        INTEGER NOT NULL,
    failures             INTEGER NOT NULL,
    retry_at             INTEGER,
    refused_since        INTEGER,
    refused_steady_since INTEGER,
    refused_last         INTEGER,
    fence                INTEGER NOT NULL,
    leased_until         INTEGER,
    access_expires_at    INTEGER,
    -- The data key, wrapped by the key-encryption key with this ID; none if there are no tokens.
    key_id               TEXT,
    data_key             BLOB,
    -- Sealed with the data key.
    refresh_token        BLOB,
    access_tokens        BLOB,
    -- A random number that changes with each change of the row.
    stamp                INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject, server, account)
) STRICT;

CREATE INDEX grants_by_key ON grants (key_id, id);

-- Revocations and blocks, in the order in which they became visible.
CREATE TABLE revocations (
    place   INTEGER NOT NULL PRIMARY KEY,
    kind    TEXT    NOT NULL,
    issuer  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    -- Digest of the user or the grant whose last change is kept; none if no change is.
    about   BLOB
) STRICT;

CREATE INDEX revocations_about ON revocations (about, place);

-- One row: the last place that was given.
CREATE TABLE revocation_sequence (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL
) STRICT;

INSERT INTO revocation_sequence (one, last) VALUES (1, 0);

-- For how long processes have measured that entries up to a place exist.
CREATE TABLE revocation_ages (
    place      INTEGER NOT NULL PRIMARY KEY,
    age_millis INTEGER NOT NULL
) STRICT;

-- Keys that all processes share, wrapped by the key-encryption key.
CREATE TABLE sealing_keys (
    purpose    TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    key_id     TEXT    NOT NULL,
    wrapped    BLOB    NOT NULL,
    PRIMARY KEY (purpose, generation)
) STRICT;
