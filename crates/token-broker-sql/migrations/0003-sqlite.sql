-- The authorization server. Texts are compared octet by octet. A `mac` authenticates the columns of
-- its row that never change.

-- Numbers that must not be counted twice at once: of clients and of accounts, and the generation of
-- the signing keys.
CREATE TABLE authority_counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

INSERT INTO authority_counters (name, value)
    VALUES ('clients', 0), ('accounts', 0), ('signing_keys', 0);

-- Clients that registered themselves.
CREATE TABLE clients (
    id               TEXT    NOT NULL PRIMARY KEY,
    name             TEXT    NOT NULL,
    -- Each ends with a line feed.
    redirect_uris    TEXT    NOT NULL,
    application_type TEXT    NOT NULL,
    auth_method      TEXT    NOT NULL,
    -- Keyed hash.
    secret           BLOB,
    jwks             TEXT,
    jwks_uri         TEXT,
    software_id      TEXT,
    software_version TEXT,
    created_at       INTEGER NOT NULL,
    last_used_at     INTEGER,
    mac              BLOB    NOT NULL
) STRICT;

CREATE INDEX clients_by_age ON clients (created_at);

-- Authorization codes, by a keyed hash.
CREATE TABLE codes (
    hash             BLOB    NOT NULL PRIMARY KEY,
    issuer           TEXT    NOT NULL,
    subject          TEXT    NOT NULL,
    client           TEXT    NOT NULL,
    redirect_uri     TEXT    NOT NULL,
    resource         TEXT    NOT NULL,
    scopes           TEXT    NOT NULL,
    challenge        TEXT    NOT NULL,
    session          TEXT    NOT NULL,
    family           TEXT    NOT NULL UNIQUE,
    authenticated_at INTEGER NOT NULL,
    issued_at        INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    redeemed_at      INTEGER,
    ended_at         INTEGER,
    mac              BLOB    NOT NULL
) STRICT;

CREATE INDEX codes_by_end ON codes (expires_at);

-- Token families. Refresh tokens are derived, not stored.
CREATE TABLE families (
    id           TEXT    NOT NULL PRIMARY KEY,
    issuer       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    client       TEXT    NOT NULL,
    resource     TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    issued_at    INTEGER NOT NULL,
    -- When earlier generations were superseded: pairs of numbers of 8 octets.
    superseded   BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    idle_until   INTEGER NOT NULL,
    ends_at      INTEGER NOT NULL,
    end_reason   TEXT,
    ended_at     INTEGER,
    -- The first of all ends, for the removal of old rows.
    over_at      INTEGER NOT NULL,
    -- The data key, wrapped by the key-encryption key with this ID; none after the end.
    key_id       TEXT,
    data_key     BLOB,
    -- Sealed with the data key.
    family_key   BLOB
) STRICT;

CREATE INDEX families_by_user ON families (issuer, subject, id);
CREATE INDEX families_by_client ON families (client, id);
CREATE INDEX families_by_key ON families (key_id, id);
CREATE INDEX families_by_end ON families (over_at);

-- Browser sessions, by a keyed hash of the cookie.
CREATE TABLE sessions (
    hash             BLOB    NOT NULL PRIMARY KEY,
    id               TEXT    NOT NULL UNIQUE,
    issuer           TEXT    NOT NULL,
    subject          TEXT    NOT NULL,
    account_epoch    INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    last_seen_at     INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    mac              BLOB    NOT NULL
) STRICT;

CREATE INDEX sessions_by_user ON sessions (issuer, subject);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Local accounts.
CREATE TABLE accounts (
    subject              TEXT    NOT NULL PRIMARY KEY,
    name                 TEXT    NOT NULL,
    -- By which names are compared.
    name_key             TEXT    NOT NULL UNIQUE,
    enabled              INTEGER NOT NULL,
    must_change_password INTEGER NOT NULL,
    epoch                INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    key_id               TEXT    NOT NULL,
    data_key             BLOB    NOT NULL,
    -- Sealed with the data key.
    password_hash        BLOB    NOT NULL
) STRICT;

-- At most one row: the one-time link for the first account, by a keyed hash.
CREATE TABLE first_account_link (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    hash       BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- Keys that sign broker tokens.
CREATE TABLE signing_keys (
    id              TEXT    NOT NULL PRIMARY KEY,
    algorithm       TEXT    NOT NULL,
    published_from  INTEGER NOT NULL,
    signs_from      INTEGER NOT NULL,
    signs_until     INTEGER,
    published_until INTEGER,
    key_id          TEXT    NOT NULL,
    data_key        BLOB    NOT NULL,
    -- Sealed with the data key.
    private_key     BLOB    NOT NULL
) STRICT;
