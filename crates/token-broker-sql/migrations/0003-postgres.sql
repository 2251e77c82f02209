-- The authorization server. Texts are compared octet by octet. A `mac` authenticates the columns of
-- its row that never change.

-- Numbers that must not be counted twice at once: of clients and of accounts, and the generation of
-- the signing keys.
CREATE TABLE authority_counters (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO authority_counters (name, value)
    VALUES ('clients', 0), ('accounts', 0), ('signing_keys', 0);

-- Clients that registered themselves.
CREATE TABLE clients (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    -- Each ends with a line feed.
    redirect_uris TEXT COLLATE "C" NOT NULL,
    application_type TEXT COLLATE "C" NOT NULL,
    auth_method TEXT COLLATE "C" NOT NULL,
    -- Keyed hash.
    secret BYTEA,
    jwks TEXT COLLATE "C",
    jwks_uri TEXT COLLATE "C",
    software_id TEXT COLLATE "C",
    software_version TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    last_used_at BIGINT,
    mac BYTEA NOT NULL
);

CREATE INDEX clients_by_age ON clients (created_at);

-- Authorization codes, by a keyed hash.
CREATE TABLE codes (
    hash BYTEA NOT NULL PRIMARY KEY,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    redirect_uri TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    challenge TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    family TEXT COLLATE "C" NOT NULL UNIQUE,
    authenticated_at BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    redeemed_at BIGINT,
    ended_at BIGINT,
    mac BYTEA NOT NULL
);

CREATE INDEX codes_by_end ON codes (expires_at);

-- Token families. Refresh tokens are derived, not stored.
CREATE TABLE families (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    -- When earlier generations were superseded: pairs of numbers of 8 octets.
    superseded BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    idle_until BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    end_reason TEXT COLLATE "C",
    ended_at BIGINT,
    -- The first of all ends, for the removal of old rows.
    over_at BIGINT NOT NULL,
    -- The data key, wrapped by the key-encryption key with this ID; none after the end.
    key_id TEXT COLLATE "C",
    data_key BYTEA,
    -- Sealed with the data key.
    family_key BYTEA
);

CREATE INDEX families_by_user ON families (issuer, subject, id);
CREATE INDEX families_by_client ON families (client, id);
CREATE INDEX families_by_key ON families (key_id, id);
CREATE INDEX families_by_end ON families (over_at);

-- Browser sessions, by a keyed hash of the cookie.
CREATE TABLE sessions (
    hash BYTEA NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    account_epoch BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    mac BYTEA NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (issuer, subject);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Local accounts.
CREATE TABLE accounts (
    subject TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    -- By which names are compared.
    name_key TEXT COLLATE "C" NOT NULL UNIQUE,
    enabled BIGINT NOT NULL,
    must_change_password BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    data_key BYTEA NOT NULL,
    -- Sealed with the data key.
    password_hash BYTEA NOT NULL
);

-- At most one row: the one-time link for the first account, by a keyed hash.
CREATE TABLE first_account_link (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    hash BYTEA NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Keys that sign broker tokens.
CREATE TABLE signing_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm TEXT COLLATE "C" NOT NULL,
    published_from BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    signs_until BIGINT,
    published_until BIGINT,
    key_id TEXT COLLATE "C" NOT NULL,
    data_key BYTEA NOT NULL,
    -- Sealed with the data key.
    private_key BYTEA NOT NULL
);
