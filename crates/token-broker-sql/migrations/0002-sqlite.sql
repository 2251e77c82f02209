-- Those who note outside of the store how far it has come: a gateway or the commands of one host.
-- Each changes its stamp, a random text, with each note. A store without the last stamp of a
-- witness is an older copy, or another store.
CREATE TABLE witnesses (
    witness TEXT NOT NULL PRIMARY KEY,
    stamp   TEXT NOT NULL
) STRICT;

-- One row: how often an older copy was accepted.
CREATE TABLE recoveries (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL
) STRICT;

INSERT INTO recoveries (one, count) VALUES (1, 0);
