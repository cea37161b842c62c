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

-- A revocation list grows with the certificates that name it, so a key opens another one when there are many.
ALTER TABLE crls ADD COLUMN certificates INTEGER NOT NULL DEFAULT 0;

-- The addresses of a list that certificates name: one for each publication URL that was configured meanwhile.
CREATE TABLE crl_urls (
    crl_id BLOB NOT NULL REFERENCES crls (id),
    url TEXT NOT NULL,
    PRIMARY KEY (crl_id, url)
);

-- How far in the order of issue certificates were counted into their lists.
CREATE TABLE certificate_count (
    id INTEGER PRIMARY KEY,
    counted_to INTEGER NOT NULL
);
INSERT INTO certificate_count (id, counted_to) VALUES (1, 0);
