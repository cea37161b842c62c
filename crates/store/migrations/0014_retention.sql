-- How long what is past is kept, and where the chains of the audit begin once their oldest records are gone.

-- Days; null keeps for ever. One row for an organisation that said something.
CREATE TABLE retention_policies (
    organization_id BLOB PRIMARY KEY REFERENCES organizations (id),
    expired_certificate_days INTEGER,
    certificate_request_days INTEGER,
    audit_days INTEGER,
    updated_at INTEGER NOT NULL
);

-- The record before the first one that is left of a node's chain, and its time. `seal` proves the row, as it does for heads.
CREATE TABLE audit_starts (
    node INTEGER PRIMARY KEY,
    node_seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL,
    seal BLOB NOT NULL
);

-- Whether a destination still has to do with a certificate.
CREATE INDEX sync_objects_certificate ON sync_objects (certificate_id);
