-- The secrets by which accounts of ACME prove to which profile they belong (RFC 8555 §7.3.4); one for each profile, sealed.
CREATE TABLE account_bindings (
    profile_id BLOB PRIMARY KEY REFERENCES profiles (id) ON DELETE CASCADE,
    data_key_version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
