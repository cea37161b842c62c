-- Applications: which profiles a team uses, how it comes to certificates of each, and who its members are.

CREATE UNIQUE INDEX profiles_in_project ON profiles (project_id, id);

CREATE TABLE applications (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX applications_in_project ON applications (project_id, id);
CREATE UNIQUE INDEX applications_name ON applications (project_id, name);

-- A profile is not deleted while it is attached.
CREATE TABLE application_profiles (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    application_id BLOB NOT NULL,
    profile_id BLOB NOT NULL,
    -- How certificates are come to: by the API, by EST.
    enrollment TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, application_id) REFERENCES applications (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, profile_id) REFERENCES profiles (project_id, id)
);
CREATE UNIQUE INDEX application_profiles_pair ON application_profiles (application_id, profile_id);
CREATE INDEX application_profiles_profile ON application_profiles (profile_id);

CREATE TABLE application_members (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    application_id BLOB NOT NULL,
    identity_id BLOB NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, application_id) REFERENCES applications (project_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX application_members_pair ON application_members (application_id, identity_id);
CREATE INDEX application_members_identity ON application_members (identity_id);

-- The application that a sync was made in; it outlives it.
ALTER TABLE syncs ADD COLUMN application_id BLOB REFERENCES applications (id) ON DELETE SET NULL;
CREATE INDEX syncs_application ON syncs (application_id) WHERE application_id IS NOT NULL;
