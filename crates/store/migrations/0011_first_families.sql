-- What the first families of the API name: collections, templates and subscribers, and which certificates came from them.

CREATE TABLE certificate_collections (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX certificate_collections_project ON certificate_collections (project_id, id);

-- Members of a collection: each a certificate or an authority. One that is deleted is a member no more.
CREATE TABLE certificate_collection_items (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    collection_id BLOB NOT NULL,
    certificate_pk INTEGER REFERENCES certificates (pk) ON DELETE CASCADE,
    authority_id BLOB,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, collection_id) REFERENCES certificate_collections (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);
CREATE UNIQUE INDEX certificate_collection_items_certificate ON certificate_collection_items (collection_id, certificate_pk);
CREATE UNIQUE INDEX certificate_collection_items_authority ON certificate_collection_items (collection_id, authority_id);
CREATE INDEX certificate_collection_items_order ON certificate_collection_items (collection_id, created_at, id);
CREATE INDEX certificate_collection_items_of_certificate ON certificate_collection_items (certificate_pk);
CREATE INDEX certificate_collection_items_of_authority ON certificate_collection_items (authority_id);

-- Templates of the first family; policies, which are also called templates, have a table of their own.
CREATE TABLE templates (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    authority_id BLOB NOT NULL,
    collection_id BLOB REFERENCES certificate_collections (id) ON DELETE SET NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);
CREATE INDEX templates_project ON templates (project_id, created_at, id);
CREATE INDEX templates_authority ON templates (authority_id);
CREATE INDEX templates_collection ON templates (collection_id);

CREATE TABLE subscribers (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    authority_id BLOB NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, authority_id) REFERENCES authorities (project_id, id)
);
CREATE UNIQUE INDEX subscribers_name ON subscribers (project_id, name);
CREATE INDEX subscribers_authority ON subscribers (authority_id);

-- Certificates that came from a template or for a subscriber, and by which version of it they were judged. Both may be
-- deleted meanwhile. Not one row for each certificate.
CREATE TABLE certificate_origins (
    certificate_pk INTEGER PRIMARY KEY REFERENCES certificates (pk) ON DELETE CASCADE,
    template_id BLOB,
    subscriber_id BLOB,
    version INTEGER NOT NULL
);
CREATE INDEX certificate_origins_subscriber ON certificate_origins (subscriber_id, certificate_pk)
    WHERE subscriber_id IS NOT NULL;
