-- Those who note outside of the store how far it has come: a gateway or the commands of one host.
-- Each changes its stamp, a random text, with each note. A store without the last stamp of a
-- witness is an older copy, or another store.
CREATE TABLE witnesses (
    witness TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    stamp   TEXT COLLATE "C" NOT NULL
);

-- One row: how often an older copy was accepted.
CREATE TABLE recoveries (
    one   BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    count BIGINT NOT NULL
);

INSERT INTO recoveries (one, count) VALUES (1, 0);
