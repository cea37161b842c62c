-- An object of a sync is forgotten only after its absence was seen in several runs. Until then a certificate may have an
-- object that takes its place, so that only what is not retired is one to a certificate. (SQLite takes no constraint off a
-- table, so the table is made anew.)

CREATE TABLE sync_objects_next (
    id BLOB PRIMARY KEY,
    sync_id BLOB NOT NULL REFERENCES syncs (id) ON DELETE CASCADE,
    -- The certificate that it holds; while it is being replaced, the one that it is to hold.
    certificate_id BLOB NOT NULL,
    name TEXT NOT NULL,
    -- making, there, replacing, removing, retired
    state TEXT NOT NULL,
    -- The other system's identifier, once it is known.
    external_id TEXT,
    -- What stands there by what was read back, and what is to stand there.
    fingerprint TEXT,
    intended TEXT,
    -- What was asked for in our own words: it differs from what is wanted now when the certificate or the options changed.
    content TEXT NOT NULL,
    details TEXT NOT NULL,
    -- In how many runs it was said not to be there since it was last seen, and when it is looked for again.
    absences INTEGER NOT NULL DEFAULT 0,
    look_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
INSERT INTO sync_objects_next (id, sync_id, certificate_id, name, state, external_id, fingerprint, intended, content, details,
    created_at, updated_at)
    SELECT id, sync_id, certificate_id, name, state, external_id, fingerprint, intended, content, details, created_at,
    updated_at FROM sync_objects;
DROP TABLE sync_objects;
ALTER TABLE sync_objects_next RENAME TO sync_objects;
CREATE UNIQUE INDEX sync_objects_current ON sync_objects (sync_id, certificate_id) WHERE state <> 'retired';
CREATE INDEX sync_objects_sync ON sync_objects (sync_id, created_at);
