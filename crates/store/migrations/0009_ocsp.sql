-- Answers about the status of certificates (OCSP): who signs them, and what they rest on.

-- Responders: a key of this server with a certificate by which an authority's key lets it speak of its certificates. One for
-- each key of an authority; the next one is made long before it ends.
CREATE TABLE ocsp_responders (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    authority_key_id BLOB NOT NULL REFERENCES authority_keys (id),
    version INTEGER NOT NULL,
    serial BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    der BLOB NOT NULL,
    data_key_version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);
CREATE UNIQUE INDEX ocsp_responders_version ON ocsp_responders (authority_key_id, version);

-- Serial numbers of certificates whose records were deleted: they were issued all the same.
CREATE TABLE deleted_serials (
    authority_key_id BLOB NOT NULL,
    serial BLOB NOT NULL,
    project_id BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL,
    PRIMARY KEY (authority_key_id, serial)
);

-- What changed on any node since a moment ago.
CREATE INDEX revocations_changed_at ON revocations (changed_at);
-- The issuer of a request, and the certificates of a key.
CREATE INDEX authority_keys_sha1 ON authority_keys (key_sha1);
CREATE INDEX authority_keys_sha256 ON authority_keys (key_sha256);
CREATE INDEX authority_certificates_key ON authority_certificates (authority_key_id, version);
