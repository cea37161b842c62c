-- Lists of changes, lists that are put elsewhere, and lists of others.

-- What an authority's lists are like: whether there is one of the changes since a complete one, too, and how long after a
-- revocation they are signed at most (0: at once, with those that come in the same moment).
ALTER TABLE authorities ADD COLUMN has_delta_lists INTEGER NOT NULL DEFAULT 0;
ALTER TABLE authorities ADD COLUMN list_delay_seconds INTEGER NOT NULL DEFAULT 0;

-- The newest list of changes, and the complete list that it begins from.
ALTER TABLE crls ADD COLUMN delta BLOB;
ALTER TABLE crls ADD COLUMN delta_base_number INTEGER;
ALTER TABLE crls ADD COLUMN delta_base_at INTEGER;

-- When a revocation was made, was given another reason or was ended. Of those from before only the first is known.
ALTER TABLE revocations ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
UPDATE revocations SET changed_at = revoked_at;
CREATE INDEX revocations_changed ON revocations (authority_key_id, shard, changed_at, serial);

-- Which number of a list was put to which place last.
CREATE TABLE crl_deliveries (
    crl_id BLOB NOT NULL REFERENCES crls (id),
    target TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (crl_id, target)
);

-- Revocation lists of authorities outside that certified one of ours, as they were handed in: the newest of each issuer's
-- key.
CREATE TABLE foreign_crls (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    issuer_spki_sha256 BLOB NOT NULL,
    number BLOB,
    this_update INTEGER NOT NULL,
    next_update INTEGER,
    der BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (authority_id, issuer_spki_sha256),
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);
