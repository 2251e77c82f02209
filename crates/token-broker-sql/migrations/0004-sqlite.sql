-- Connects. Texts are compared octet by octet. A `mac` authenticates the columns of its row that
-- never change.

-- The client that obtained a grant, if it is not the configured one, when the user connected the
-- account, and for which server.
ALTER TABLE grants ADD COLUMN client_id TEXT;
ALTER TABLE grants ADD COLUMN connected_at INTEGER;
ALTER TABLE grants ADD COLUMN upstream TEXT;
ALTER TABLE grants ADD COLUMN resource TEXT;

-- Connects in progress, by a keyed hash of their `state`.
CREATE TABLE connects (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       BLOB    NOT NULL UNIQUE,
    issuer     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    server     TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    mac        BLOB    NOT NULL,
    -- The data key, wrapped by the key-encryption key with this ID; none once it is claimed.
    key_id     TEXT,
    data_key   BLOB,
    -- Sealed with the data key.
    content    BLOB
) STRICT;

CREATE INDEX connects_by_user ON connects (issuer, subject);
CREATE INDEX connects_by_end ON connects (expires_at);
CREATE INDEX connects_by_key ON connects (key_id, id);

-- Tokens that no one uses any longer, and that their authorization server is still to revoke.
CREATE TABLE pending_revocations (
    id                   TEXT    NOT NULL PRIMARY KEY,
    issuer               TEXT    NOT NULL,
    subject              TEXT    NOT NULL,
    server               TEXT    NOT NULL,
    account              TEXT    NOT NULL,
    grant_id             TEXT    NOT NULL,
    authorization_server TEXT    NOT NULL,
    client_id            TEXT,
    created_at           INTEGER NOT NULL,
    attempts             INTEGER NOT NULL,
    retry_at             INTEGER NOT NULL,
    key_id               TEXT    NOT NULL,
    data_key             BLOB    NOT NULL,
    -- Sealed with the data key.
    tokens               BLOB    NOT NULL
) STRICT;

CREATE INDEX pending_revocations_by_time ON pending_revocations (retry_at, id);
CREATE INDEX pending_revocations_by_key ON pending_revocations (key_id, id);

-- Clients that the broker registered at authorization servers.
CREATE TABLE registered_clients (
    -- Keyed hash of issuer and `client_id`.
    id                TEXT    NOT NULL PRIMARY KEY,
    issuer            TEXT    NOT NULL,
    redirect_uri      TEXT    NOT NULL,
    client_id         TEXT    NOT NULL,
    auth_method       TEXT    NOT NULL,
    scopes            TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    secret_expires_at INTEGER,
    mac               BLOB    NOT NULL,
    -- None for a public client.
    key_id            TEXT,
    data_key          BLOB,
    -- Sealed with the data key.
    secret            BLOB
) STRICT;

CREATE INDEX registered_clients_by_issuer ON registered_clients (issuer);
CREATE INDEX registered_clients_by_key ON registered_clients (key_id, id);

-- When each connection was last used, and by which client.
CREATE TABLE connection_uses (
    issuer       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    server       TEXT    NOT NULL,
    account      TEXT    NOT NULL,
    client       TEXT    NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject, server, account)
) STRICT;
