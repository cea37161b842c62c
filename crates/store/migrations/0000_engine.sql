-- What the engines themselves keep: the audit chain and the number that tells nodes to drop their caches.

-- The chain of each node. `hash` is that of its last record, `seal` proves the head itself, `highest_at` is the latest
-- time that the node committed: each node has its own row, so that nodes never wait for each other.
CREATE TABLE audit_heads (
    node INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    node_seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    seal BLOB NOT NULL,
    highest_at INTEGER NOT NULL
);

-- `seq` is node * 2^40 + the record's number on that node: one key orders, numbers and tells the node apart, and there
-- is no second index. Lists are in the order of (at, seq).
CREATE TABLE audit_records (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    organization_id BLOB,
    project_id BLOB,
    actor_kind TEXT NOT NULL,
    actor_id BLOB,
    actor_method TEXT NOT NULL,
    actor_credential BLOB,
    actor_address TEXT,
    event TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id BLOB,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
);

CREATE TABLE configuration_epoch (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL
);
INSERT INTO configuration_epoch (id, epoch) VALUES (1, 1);
