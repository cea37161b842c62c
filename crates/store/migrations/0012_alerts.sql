-- Alerts: what people want to hear of certificates, what was found, and what became of each message.

CREATE TABLE alerts (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT,
    event TEXT NOT NULL,
    before_end TEXT,
    filters TEXT NOT NULL,
    is_enabled INTEGER NOT NULL,
    is_daily INTEGER NOT NULL,
    version INTEGER NOT NULL,
    -- Everything that ends until then was told; when it looked last, and when it last looked at everything.
    looked_until INTEGER NOT NULL,
    looked_at INTEGER NOT NULL,
    looked_whole_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX alerts_name ON alerts (project_id, name);

-- `shown` is what may be shown of what is sealed.
CREATE TABLE alert_channels (
    id BLOB PRIMARY KEY,
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    is_enabled INTEGER NOT NULL,
    shown TEXT NOT NULL,
    data_key_version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX alert_channels_alert ON alert_channels (alert_id, position);

-- What happened and was not told yet: written in the commit that makes it true, and only where an alert asks for it.
CREATE TABLE alert_events (
    id BLOB PRIMARY KEY,
    project_id BLOB NOT NULL,
    event TEXT NOT NULL,
    -- What makes two of them the same.
    dedupe TEXT NOT NULL,
    certificate_id BLOB,
    failure TEXT,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX alert_events_dedupe ON alert_events (project_id, event, dedupe);

-- Each time that an alert had something to tell, with what it told.
CREATE TABLE alert_runs (
    id BLOB PRIMARY KEY,
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    subject TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX alert_runs_alert ON alert_runs (alert_id, id);
CREATE INDEX alert_runs_created ON alert_runs (created_at);

-- The message of a run on one channel. The channel may be gone.
CREATE TABLE alert_deliveries (
    id BLOB PRIMARY KEY,
    run_id BLOB NOT NULL REFERENCES alert_runs (id) ON DELETE CASCADE,
    channel_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT,
    updated_at INTEGER NOT NULL
);
CREATE INDEX alert_deliveries_run ON alert_deliveries (run_id);

-- What an alert has told of: a certificate, a certificate of an authority, a failure. While a row is here it is not told again.
CREATE TABLE alert_notices (
    alert_id BLOB NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    subject BLOB NOT NULL,
    told_at INTEGER NOT NULL,
    -- When it cannot come again.
    forget_at INTEGER NOT NULL,
    PRIMARY KEY (alert_id, subject)
);
CREATE INDEX alert_notices_forget ON alert_notices (forget_at);

-- Which certificates of authorities end soon. The others are in the order of lists.
CREATE INDEX certificates_ending ON certificates (project_id, not_after, pk) WHERE is_listed = 0;
