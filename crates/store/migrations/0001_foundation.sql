-- Who asks: organisations, projects, identities, their credentials, memberships and roles.
-- What decides: authorities, policies, profiles. What is kept: certificates, keys, revocations.
--
-- Ids are UUIDs in 16 octets, times are milliseconds since 1970, booleans are 0 and 1, documents are JSON text.
-- Rows of a tenant carry their project, and references between them name (project, id).

CREATE TABLE organizations (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE projects (
    id BLOB PRIMARY KEY,
    organization_id BLOB NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT,
    kind TEXT NOT NULL,
    has_delete_protection INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE UNIQUE INDEX projects_slug ON projects (organization_id, slug) WHERE deleted_at IS NULL;

-- A project's data keys, each sealed under the master key that it names. The nil project is the server itself.
CREATE TABLE data_keys (
    project_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    master_key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, version)
);

-- The server's own secrets: what signs access tokens, what chains the audit, its TLS key.
CREATE TABLE server_secrets (
    name TEXT PRIMARY KEY,
    id BLOB NOT NULL,
    sealed BLOB NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE identities (
    id BLOB PRIMARY KEY,
    organization_id BLOB NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    organization_role TEXT NOT NULL,
    has_delete_protection INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX identities_organization ON identities (organization_id);

CREATE TABLE universal_auths (
    id BLOB PRIMARY KEY,
    identity_id BLOB NOT NULL UNIQUE REFERENCES identities (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    failures_until INTEGER NOT NULL DEFAULT 0,
    locked_until INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE client_secrets (
    id BLOB PRIMARY KEY,
    universal_auth_id BLOB NOT NULL REFERENCES universal_auths (id) ON DELETE CASCADE,
    description TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash BLOB NOT NULL,
    uses INTEGER NOT NULL,
    uses_limit INTEGER NOT NULL,
    ttl_seconds INTEGER NOT NULL,
    is_revoked INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX client_secrets_universal_auth ON client_secrets (universal_auth_id);

CREATE TABLE access_tokens (
    id BLOB PRIMARY KEY,
    identity_id BLOB NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    client_secret_id BLOB NOT NULL,
    ttl_seconds INTEGER NOT NULL,
    ttl_seconds_max INTEGER NOT NULL,
    period_seconds INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    uses_limit INTEGER NOT NULL,
    is_revoked INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL
);
CREATE INDEX access_tokens_identity ON access_tokens (identity_id);

-- A member is named by its kind, as in the audit; for now every member is a machine identity.
CREATE TABLE memberships (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    actor_kind TEXT NOT NULL DEFAULT 'identity',
    identity_id BLOB NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project_id, actor_kind, identity_id)
);
CREATE INDEX memberships_identity ON memberships (identity_id);

CREATE TABLE roles (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    permissions TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project_id, slug)
);

-- An authority, its keys and its certificates are three tables: several certificates for one key (renewed,
-- cross-signed), several keys for one authority (rollover). One certificate is active; older keys go on signing lists.
CREATE TABLE authorities (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    enable_direct_issuance INTEGER NOT NULL,
    key_algorithm TEXT NOT NULL,
    configuration TEXT NOT NULL,
    path_length_max INTEGER,
    serial_number TEXT,
    not_before INTEGER,
    not_after INTEGER,
    active_key_id BLOB NOT NULL,
    active_certificate_id BLOB,
    parent_id BLOB,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    UNIQUE (project_id, id),
    FOREIGN KEY (project_id, parent_id) REFERENCES authorities (project_id, id)
);
CREATE UNIQUE INDEX authorities_name ON authorities (project_id, name) WHERE deleted_at IS NULL;

CREATE TABLE issuer_names (
    id INTEGER PRIMARY KEY,
    der BLOB NOT NULL UNIQUE
);

CREATE TABLE authority_keys (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    provider TEXT NOT NULL,
    handle TEXT,
    algorithm TEXT NOT NULL,
    spki BLOB NOT NULL,
    sealed BLOB,
    data_key_version INTEGER NOT NULL,
    is_exportable INTEGER NOT NULL,
    issuer_name_id INTEGER NOT NULL REFERENCES issuer_names (id),
    name_sha1 BLOB NOT NULL,
    name_sha256 BLOB NOT NULL,
    key_sha1 BLOB NOT NULL,
    key_sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (authority_id, version),
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);

CREATE TABLE authority_certificates (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    authority_key_id BLOB NOT NULL REFERENCES authority_keys (id),
    version INTEGER NOT NULL,
    der BLOB NOT NULL,
    chain TEXT NOT NULL,
    parent_certificate_id BLOB REFERENCES authority_certificates (id),
    issuer_sha256 BLOB NOT NULL,
    serial BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (authority_id, version),
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);

-- One record for each key and shard; certificates name it by its id.
CREATE TABLE crls (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    authority_key_id BLOB NOT NULL REFERENCES authority_keys (id),
    shard INTEGER NOT NULL,
    number INTEGER NOT NULL,
    der BLOB,
    this_update INTEGER,
    next_update INTEGER,
    UNIQUE (authority_key_id, shard),
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);

-- Revocations outlive the certificates that they revoke; deleting a certificate never touches this table.
CREATE TABLE revocations (
    authority_key_id BLOB NOT NULL,
    serial BLOB NOT NULL,
    project_id BLOB NOT NULL,
    shard INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (authority_key_id, serial)
);

-- Policies and profiles grow by versions; a certificate keeps the versions that it was judged by.
CREATE TABLE policies (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    rules TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project_id, id),
    UNIQUE (project_id, name)
);

CREATE TABLE policy_versions (
    policy_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    rules TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (policy_id, version)
);

CREATE TABLE profiles (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    slug TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    enrollment TEXT NOT NULL,
    issuer TEXT NOT NULL,
    authority_id BLOB,
    policy_id BLOB NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project_id, slug),
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id),
    FOREIGN KEY (project_id, policy_id) REFERENCES policies (project_id, id)
);

CREATE TABLE profile_versions (
    profile_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    authority_id BLOB,
    policy_id BLOB NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (profile_id, version)
);

-- The inventory. Every value is read from the certificate's own DER. No foreign keys: this is the hot table, its rows
-- outlive the authority and the profile, and the commit checks both by their versions.
-- The id is also the id of the request, when the request was answered at once.
CREATE TABLE certificates (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    project_id BLOB NOT NULL,
    profile_id BLOB,
    profile_version INTEGER,
    policy_version INTEGER,
    authority_id BLOB,
    authority_key_id BLOB,
    authority_certificate_id BLOB,
    issuer_name_id INTEGER NOT NULL,
    serial BLOB NOT NULL,
    shard INTEGER,
    status INTEGER NOT NULL,
    common_name TEXT NOT NULL,
    alt_names TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    key_algorithm TEXT NOT NULL,
    signature_algorithm TEXT NOT NULL,
    extended_key_usages TEXT NOT NULL,
    is_listed INTEGER NOT NULL,
    details TEXT,
    created_at INTEGER NOT NULL,
    der BLOB NOT NULL,
    UNIQUE (issuer_name_id, serial)
);
-- Certificates of authorities are shown with their authority, and not in lists.
CREATE INDEX certificates_project ON certificates (project_id, is_listed, pk);
CREATE INDEX certificates_profile ON certificates (profile_id, pk) WHERE profile_id IS NOT NULL;

-- Keys of leaves that were made here. They leave only by the endpoints that are meant for it.
CREATE TABLE leaf_keys (
    certificate_pk INTEGER PRIMARY KEY REFERENCES certificates (pk) ON DELETE CASCADE,
    provider INTEGER NOT NULL,
    data_key_version INTEGER NOT NULL,
    sealed BLOB NOT NULL
);

-- Requests that wait for a person or for another server; one that is answered at once has no row here.
CREATE TABLE certificate_requests (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    profile_id BLOB NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    certificate_id BLOB,
    error_message TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX certificate_requests_project ON certificate_requests (project_id, created_at);

-- Answers kept for a repeated request: the digest of the caller, route and key; the digest of the body; the sealed answer.
CREATE TABLE idempotency_keys (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    body_sha256 BLOB NOT NULL,
    certificate_id BLOB,
    sealed BLOB,
    created_at INTEGER NOT NULL
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

CREATE TABLE jobs (
    id BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    dedupe TEXT,
    payload TEXT NOT NULL,
    status TEXT NOT NULL,
    run_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    lease_owner TEXT,
    lease_until INTEGER NOT NULL,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe);
CREATE INDEX jobs_due ON jobs (status, run_at);
