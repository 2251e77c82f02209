-- One row: which store this is, and how far it has come.
CREATE TABLE store_mark (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- A random name.
    store      TEXT    NOT NULL,
    -- How often a restored backup was accepted.
    recoveries INTEGER NOT NULL,
    -- Rises while the store is in use.
    progress   INTEGER NOT NULL
) STRICT;
