-- Certificates that were made REVOKED in the device registry, which is final: the row stays when the certificate is taken
-- away from its owner, and while it is there nobody registers that certificate anew.
CREATE TABLE revoked_certificates (
    -- SHA-256 of the DER.
    fingerprint BLOB PRIMARY KEY,
    -- Whose certificate it was when it was revoked.
    project_id BLOB NOT NULL REFERENCES projects (id),
    revoked_at INTEGER NOT NULL
);
-- Of those that were revoked before there was this table it is not known when.
INSERT INTO revoked_certificates (fingerprint, project_id, revoked_at)
    SELECT fingerprint, project_id, created_at FROM registered_certificates WHERE state = 'REVOKED';
