-- The device registry: registries, devices and brokers, what they prove themselves with, and what their topics hold.

-- A folder is the caller's name for a project; `folder_key` is empty for the project's own names, and the configured name
-- for those that the operator added: each is a list of its own.
CREATE TABLE registries (
    id TEXT PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    folder_key TEXT NOT NULL,
    folder_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    log_options TEXT NOT NULL,
    log_group_id TEXT NOT NULL,
    is_disabled INTEGER NOT NULL,
    -- Counts the changes of the registry, its credentials and its devices' aliases: who decides on them commits on the same count.
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX registries_name ON registries (project_id, folder_key, name) WHERE name <> '';
CREATE INDEX registries_folder ON registries (project_id, folder_key, created_at, id);

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    registry_id TEXT NOT NULL REFERENCES registries (id),
    project_id BLOB NOT NULL REFERENCES projects (id),
    folder_key TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX devices_name ON devices (registry_id, name) WHERE name <> '';
CREATE INDEX devices_registry ON devices (registry_id, created_at, id);
CREATE INDEX devices_folder ON devices (project_id, folder_key, created_at, id);

CREATE TABLE brokers (
    id TEXT PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    folder_key TEXT NOT NULL,
    folder_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    log_options TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX brokers_name ON brokers (project_id, folder_key, name) WHERE name <> '';
CREATE INDEX brokers_folder ON brokers (project_id, folder_key, created_at, id);

CREATE TABLE topic_aliases (
    registry_id TEXT NOT NULL REFERENCES registries (id),
    alias TEXT NOT NULL,
    device_id TEXT NOT NULL REFERENCES devices (id),
    topic_prefix TEXT NOT NULL,
    PRIMARY KEY (registry_id, alias)
);
CREATE INDEX topic_aliases_device ON topic_aliases (device_id);

-- Certificates that registries, devices and brokers prove themselves with. One belongs to one owner.
CREATE TABLE registered_certificates (
    fingerprint BLOB PRIMARY KEY,
    fingerprint_sha1 BLOB NOT NULL,
    -- What the vendor called it, when it was imported.
    fingerprint_imported TEXT,
    project_id BLOB NOT NULL REFERENCES projects (id),
    -- registry, device, broker
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- The registry that it counts for: its own, or its device's.
    registry_id TEXT,
    -- As it was handed in, byte for byte.
    certificate_data TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    -- ACTIVE, INACTIVE, REVOKED
    state TEXT NOT NULL,
    -- Which key of ours signed it, when one did.
    authority_key_id BLOB,
    serial BLOB,
    -- The trust by which it was taken in, when it was by one.
    trusted_authority_id TEXT,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX registered_certificates_sha1 ON registered_certificates (fingerprint_sha1);
CREATE INDEX registered_certificates_owner ON registered_certificates (owner_id, created_at);
CREATE INDEX registered_certificates_end ON registered_certificates (registry_id, not_after) WHERE registry_id IS NOT NULL;
CREATE INDEX registered_certificates_ours ON registered_certificates (authority_key_id, serial)
    WHERE authority_key_id IS NOT NULL;

CREATE TABLE registered_passwords (
    id TEXT PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- Argon2id, in the PHC string format.
    hash TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX registered_passwords_owner ON registered_passwords (owner_id, created_at);

-- Credentials and owners whose access ended: every node closes the sessions that stand on them. Kept for an hour.
CREATE TABLE access_ends (
    id BLOB PRIMARY KEY,
    -- certificate (the hex of its SHA-256), password, registry, device, broker
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX access_ends_at ON access_ends (at);

-- When a device was last seen.
CREATE TABLE device_monitoring (
    device_id TEXT PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    last_auth_ip TEXT,
    last_auth_at INTEGER,
    last_pub_activity_at INTEGER,
    last_sub_activity_at INTEGER,
    last_online_at INTEGER,
    last_disconnect_at INTEGER
);

-- The last payload of each permanent topic.
CREATE TABLE topic_values (
    registry_id TEXT NOT NULL REFERENCES registries (id) ON DELETE CASCADE,
    topic TEXT NOT NULL,
    -- The device that the topic belongs to, unless it is the registry's.
    device_id TEXT REFERENCES devices (id) ON DELETE CASCADE,
    payload BLOB NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (registry_id, topic)
);
CREATE INDEX topic_values_device ON topic_values (device_id) WHERE device_id IS NOT NULL;

-- Messages on their way to other nodes. Kept for a minute.
CREATE TABLE topic_messages (
    id BLOB PRIMARY KEY,
    node TEXT NOT NULL,
    -- The registry or broker whose topics these are.
    space_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX topic_messages_at ON topic_messages (at);

-- What callers asked for and what came of it. Kept for 14 days.
CREATE TABLE registry_operations (
    id TEXT PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    resource_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    -- SHA-256 of principal, method and idempotency key, and of the request that they came with.
    idempotency_scope BLOB,
    request_digest BLOB
);
CREATE UNIQUE INDEX registry_operations_idempotency ON registry_operations (idempotency_scope)
    WHERE idempotency_scope IS NOT NULL;
CREATE INDEX registry_operations_resource ON registry_operations (resource_id, created_at, id);
CREATE INDEX registry_operations_age ON registry_operations (created_at);

-- Authorities whose certificates a registry takes in by themselves. One is trusted by one registry at most.
CREATE TABLE trusted_authorities (
    id TEXT PRIMARY KEY,
    registry_id TEXT NOT NULL REFERENCES registries (id),
    project_id BLOB NOT NULL REFERENCES projects (id),
    -- The authority of ours, when it is one.
    authority_id BLOB,
    -- Of its key and of its name, by which it is found.
    spki_sha256 BLOB NOT NULL,
    subject_sha256 BLOB NOT NULL,
    der BLOB NOT NULL,
    template TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX trusted_authorities_key ON trusted_authorities (spki_sha256);
CREATE INDEX trusted_authorities_subject ON trusted_authorities (subject_sha256);
CREATE INDEX trusted_authorities_registry ON trusted_authorities (registry_id, created_at);

-- Brokers outside that ask here who may do what. The URL's secret is kept as SHA-256.
CREATE TABLE broker_hooks (
    id TEXT PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    folder_key TEXT NOT NULL,
    folder_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX broker_hooks_secret ON broker_hooks (secret_sha256);
CREATE INDEX broker_hooks_folder ON broker_hooks (project_id, folder_key, created_at, id);
