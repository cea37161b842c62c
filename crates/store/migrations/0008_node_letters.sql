-- Nodes of one database tell each other more than messages, so what they tell is a letter now. Nothing in the old table is
-- older than a minute.

DROP TABLE topic_messages;

-- Letters of one node to the others; kept for a minute.
CREATE TABLE node_letters (
    -- Those of one node grow.
    id BLOB PRIMARY KEY,
    node TEXT NOT NULL,
    octets BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX node_letters_at ON node_letters (at);
