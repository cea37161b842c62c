-- Connections to other systems, and the syncs that carry certificates there.

-- How often a job was planned anew: who ends it sees whether that happened while it was done.
ALTER TABLE jobs ADD COLUMN planned INTEGER NOT NULL DEFAULT 0;

-- What convinces the other system is sealed; `shown` is the rest of the credentials.
CREATE TABLE connections (
    id BLOB PRIMARY KEY,
    organization_id BLOB NOT NULL REFERENCES organizations (id),
    project_id BLOB REFERENCES projects (id),
    kind TEXT NOT NULL,
    method TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    shown TEXT NOT NULL,
    data_key_version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX connections_name ON connections (organization_id, kind, name);

CREATE TABLE syncs (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT,
    destination TEXT NOT NULL,
    connection_id BLOB REFERENCES connections (id),
    is_automatic INTEGER NOT NULL,
    config TEXT NOT NULL,
    options TEXT NOT NULL,
    -- Secrets of the sync itself; their data key's version.
    data_key_version INTEGER,
    sealed BLOB,
    version INTEGER NOT NULL,
    -- What became of the last run, and of the last removal of everything.
    status TEXT,
    last_job_id BLOB,
    last_message TEXT,
    last_synced_at INTEGER,
    remove_status TEXT,
    last_remove_job_id BLOB,
    last_remove_message TEXT,
    last_removed_at INTEGER,
    -- Whether changes were delivered whose last step (a command, saving a configuration) is still to be done.
    is_unfinished INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX syncs_name ON syncs (project_id, name);
CREATE INDEX syncs_connection ON syncs (connection_id) WHERE connection_id IS NOT NULL;

-- Which certificates a sync carries.
CREATE TABLE sync_links (
    id BLOB PRIMARY KEY,
    sync_id BLOB NOT NULL REFERENCES syncs (id) ON DELETE CASCADE,
    certificate_id BLOB NOT NULL REFERENCES certificates (id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    message TEXT,
    last_synced_at INTEGER,
    -- Until when it may take for the certificate to be seen being served.
    prove_until INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (sync_id, certificate_id)
);
CREATE INDEX sync_links_certificate ON sync_links (certificate_id);

-- The ledger: every object that a sync made, or began to make, at its destination. A row is written before the other
-- system is asked, and goes after the object did. Only what is here is ever changed or removed.
CREATE TABLE sync_objects (
    id BLOB PRIMARY KEY,
    sync_id BLOB NOT NULL REFERENCES syncs (id) ON DELETE CASCADE,
    -- The certificate that it holds; while it is being replaced, the one that it is to hold.
    certificate_id BLOB NOT NULL,
    name TEXT NOT NULL,
    -- making, there, replacing, removing
    state TEXT NOT NULL,
    -- The other system's identifier, once it is known.
    external_id TEXT,
    -- What stands there by what was read back, and what is to stand there.
    fingerprint TEXT,
    intended TEXT,
    -- What was asked for in our own words: it differs from what is wanted now when the certificate or the options changed.
    content TEXT NOT NULL,
    details TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (sync_id, certificate_id)
);
