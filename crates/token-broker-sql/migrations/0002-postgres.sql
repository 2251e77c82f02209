-- One row: which store this is, and how far it has come.
CREATE TABLE store_mark (
    one        BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    -- A random name.
    store      TEXT COLLATE "C" NOT NULL,
    -- How often a restored backup was accepted.
    recoveries BIGINT NOT NULL,
    -- Rises while the store is in use.
    progress   BIGINT NOT NULL
);
