-- One row per user, server and account. Texts are compared octet by octet.
CREATE TABLE grants (
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    authorization_server TEXT COLLATE "C" NOT NULL,
    granted TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    open_attempts BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT,
    refused_since BIGINT,
    refused_steady_since BIGINT,
    refused_last BIGINT,
    fence BIGINT NOT NULL,
    leased_until BIGINT,
    access_expires_at BIGINT,
    -- The data key, wrapped by the key-encryption key with this ID; none if there are no tokens.
    key_id TEXT COLLATE "C",
    data_key BYTEA,
    -- Sealed with the data key.
    refresh_token BYTEA,
    access_tokens BYTEA,
    -- A random number that changes with each change of the row.
    stamp BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject, server, account)
);

CREATE INDEX grants_by_key ON grants (key_id, id);

-- Revocations and blocks, in the order in which they became visible.
CREATE TABLE revocations (
    place BIGINT NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    -- Digest of the user or the grant whose last change is kept; none if no change is.
    about BYTEA
);

CREATE INDEX revocations_about ON revocations (about, place);

-- One row: the last place that was given.
CREATE TABLE revocation_sequence (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    last BIGINT NOT NULL
);

INSERT INTO revocation_sequence (one, last) VALUES (1, 0);

-- For how long processes have measured that entries up to a place exist.
CREATE TABLE revocation_ages (
    place BIGINT NOT NULL PRIMARY KEY,
    age_millis BIGINT NOT NULL
);

-- Keys that all processes share, wrapped by the key-encryption key.
CREATE TABLE sealing_keys (
    purpose TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    wrapped BYTEA NOT NULL,
    PRIMARY KEY (purpose, generation)
);
