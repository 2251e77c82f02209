-- Connects. Texts are compared octet by octet. A `mac` authenticates the columns of its row that
-- never change.

-- The client that obtained a grant, if it is not the configured one, when the user connected the
-- account, and for which server.
ALTER TABLE grants ADD COLUMN client_id TEXT COLLATE "C";
ALTER TABLE grants ADD COLUMN connected_at BIGINT;
ALTER TABLE grants ADD COLUMN upstream TEXT COLLATE "C";
ALTER TABLE grants ADD COLUMN resource TEXT COLLATE "C";

-- Connects in progress, by a keyed hash of their `state`.
CREATE TABLE connects (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    -- The data key, wrapped by the key-encryption key with this ID; none once it is claimed.
    key_id TEXT COLLATE "C",
    data_key BYTEA,
    -- Sealed with the data key.
    content BYTEA
);

CREATE INDEX connects_by_user ON connects (issuer, subject);
CREATE INDEX connects_by_end ON connects (expires_at);
CREATE INDEX connects_by_key ON connects (key_id, id);

-- Tokens that no one uses any longer, and that their authorization server is still to revoke.
CREATE TABLE pending_revocations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    authorization_server TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    data_key BYTEA NOT NULL,
    -- Sealed with the data key.
    tokens BYTEA NOT NULL
);

CREATE INDEX pending_revocations_by_time ON pending_revocations (retry_at, id);
CREATE INDEX pending_revocations_by_key ON pending_revocations (key_id, id);

-- Clients that the broker registered at authorization servers.
CREATE TABLE registered_clients (
    -- Keyed hash of issuer and `client_id`.
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    issuer TEXT COLLATE "C" NOT NULL,
    redirect_uri TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL,
    auth_method TEXT COLLATE "C" NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    secret_expires_at BIGINT,
    mac BYTEA NOT NULL,
    -- None for a public client.
    key_id TEXT COLLATE "C",
    data_key BYTEA,
    -- Sealed with the data key.
    secret BYTEA
);

CREATE INDEX registered_clients_by_issuer ON registered_clients (issuer);
CREATE INDEX registered_clients_by_key ON registered_clients (key_id, id);

-- When each connection was last used, and by which client.
CREATE TABLE connection_uses (
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject, server, account)
);
