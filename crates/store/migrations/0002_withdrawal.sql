-- Withdrawal and renewal of certificates.

-- A certificate on hold that was released: its row stays, since lists up to then name it, and is not a revocation any more.
ALTER TABLE revocations ADD COLUMN released_at INTEGER;
CREATE INDEX revocations_shard ON revocations (authority_key_id, shard, serial);

-- Keys that were said to be in the wrong hands. No certificate is made for one again.
CREATE TABLE blocked_keys (
    organization_id BLOB NOT NULL REFERENCES organizations (id),
    spki_sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, spki_sha256)
);

-- Which certificate took the place of which: at most one after each, and one before each. Both may be deleted meanwhile.
CREATE TABLE renewals (
    predecessor_id BLOB PRIMARY KEY,
    successor_id BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
);

-- What is meant to happen to a certificate by itself, and what kept it from happening. Not one row for each certificate.
CREATE TABLE renewal_plans (
    certificate_pk INTEGER PRIMARY KEY REFERENCES certificates (pk) ON DELETE CASCADE,
    renew_before_days INTEGER,
    renew_at INTEGER,
    last_error TEXT
);
CREATE INDEX renewal_plans_due ON renewal_plans (renew_at) WHERE renew_at IS NOT NULL;
