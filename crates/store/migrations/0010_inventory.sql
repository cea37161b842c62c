-- What makes the inventory quick to search and to count at any size.

-- A project by a small number, which stands in each index instead of an id of 16 octets.
CREATE TABLE inventory_spaces (
    number INTEGER PRIMARY KEY,
    project_id BLOB NOT NULL
);
CREATE UNIQUE INDEX inventory_spaces_project ON inventory_spaces (project_id);

-- What many certificates have in common. Without an authority or a profile the id is empty. Never removed.
CREATE TABLE certificate_groups (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    project_id BLOB NOT NULL,
    authority_id BLOB NOT NULL,
    profile_id BLOB NOT NULL,
    key_algorithm TEXT NOT NULL,
    signature_algorithm TEXT NOT NULL,
    extended_key_usages TEXT NOT NULL
);
CREATE UNIQUE INDEX certificate_groups_key ON certificate_groups
    (project_id, authority_id, profile_id, key_algorithm, signature_algorithm, extended_key_usages);
CREATE INDEX certificate_groups_space ON certificate_groups (space);

-- What follows the first label of names: few texts of many certificates, whose labels are looked for here. Never removed.
CREATE TABLE certificate_domains (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    domain TEXT NOT NULL
);
CREATE UNIQUE INDEX certificate_domains_domain ON certificate_domains (space, domain);

-- Alternative names that are not the common name, in lower case, at most 255 characters of each.
CREATE TABLE certificate_names (
    certificate_pk INTEGER NOT NULL REFERENCES certificates (pk) ON DELETE CASCADE,
    name TEXT NOT NULL,
    space INTEGER NOT NULL,
    domain_id INTEGER,
    PRIMARY KEY (certificate_pk, name)
) WITHOUT ROWID;

-- Names for people that were given, in lower case, at most 255 characters of each. Otherwise it is the common name.
CREATE TABLE certificate_friendly_names (
    certificate_pk INTEGER PRIMARY KEY REFERENCES certificates (pk) ON DELETE CASCADE,
    space INTEGER NOT NULL,
    name TEXT NOT NULL
);
CREATE INDEX certificate_friendly_names_name ON certificate_friendly_names (space, name);

-- How many certificates of a group have a status and end on a day, in days since 1970. Each node of a server counts in
-- rows of its own, so that nodes never wait for each other: the sum over them is the number.
CREATE TABLE certificate_counts (
    group_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    day INTEGER NOT NULL,
    node INTEGER NOT NULL,
    certificates INTEGER NOT NULL,
    PRIMARY KEY (group_id, status, day, node)
) WITHOUT ROWID;

-- Only what is shown in lists has a space.
ALTER TABLE certificates ADD COLUMN space INTEGER;
ALTER TABLE certificates ADD COLUMN group_id INTEGER;
ALTER TABLE certificates ADD COLUMN domain_id INTEGER;

-- The certificates that are there already.
INSERT INTO inventory_spaces (project_id) SELECT DISTINCT project_id FROM certificates WHERE is_listed = 1;
INSERT INTO certificate_groups (space, project_id, authority_id, profile_id, key_algorithm, signature_algorithm,
    extended_key_usages)
    SELECT DISTINCT s.number, c.project_id, COALESCE(c.authority_id, CAST('' AS BLOB)),
    COALESCE(c.profile_id, CAST('' AS BLOB)), c.key_algorithm, c.signature_algorithm, c.extended_key_usages
    FROM certificates c JOIN inventory_spaces s ON s.project_id = c.project_id WHERE c.is_listed = 1;

-- The last of the names that are joined is cut off until none is left.
WITH RECURSIVE parts (pk, space, common_name, head, name) AS (
    SELECT c.pk, s.number, lower(c.common_name), lower(c.alt_names), substr(c.alt_names, 1, 0)
    FROM certificates c JOIN inventory_spaces s ON s.project_id = c.project_id
    WHERE c.is_listed = 1 AND c.alt_names <> ''
    UNION ALL
    SELECT pk, space, common_name, rtrim(rtrim(head, replace(head, ',', '')), ', '),
    ltrim(substr(head, length(rtrim(head, replace(head, ',', ''))) + 1), ' ')
    FROM parts WHERE head <> ''
)
INSERT INTO certificate_names (certificate_pk, name, space)
    SELECT DISTINCT pk, substr(name, 1, 255), space FROM parts WHERE name <> '' AND name <> common_name;

-- What follows the first label: see DerivedColumns::domain_of.
CREATE TABLE inventory_domains_of (
    name TEXT NOT NULL PRIMARY KEY,
    domain TEXT NOT NULL
);
INSERT INTO inventory_domains_of (name, domain)
    SELECT name, substr(ltrim(name, 'abcdefghijklmnopqrstuvwxyz0123456789-_*%+!#$&=?~'), 2) FROM
    (SELECT substr(lower(common_name), 1, 255) AS name FROM certificates WHERE is_listed = 1
    UNION SELECT name FROM certificate_names) n
    WHERE ltrim(name, 'abcdefghijklmnopqrstuvwxyz0123456789-_*%+!#$&=?~') LIKE '.%' AND name NOT LIKE '%@%';
INSERT INTO inventory_domains_of (name, domain)
    SELECT name, substr(ltrim(name, 'abcdefghijklmnopqrstuvwxyz0123456789-_*%+!#$&=?~.'), 2) FROM
    (SELECT substr(lower(common_name), 1, 255) AS name FROM certificates WHERE is_listed = 1
    UNION SELECT name FROM certificate_names) n
    WHERE ltrim(name, 'abcdefghijklmnopqrstuvwxyz0123456789-_*%+!#$&=?~.') LIKE '@%';
DELETE FROM inventory_domains_of WHERE trim(domain, '0123456789.') = '';
INSERT INTO certificate_domains (space, domain)
    SELECT s.number, d.domain FROM certificates c JOIN inventory_spaces s ON s.project_id = c.project_id
    JOIN inventory_domains_of d ON d.name = substr(lower(c.common_name), 1, 255) WHERE c.is_listed = 1
    UNION SELECT n.space, d.domain FROM certificate_names n JOIN inventory_domains_of d ON d.name = n.name;
UPDATE certificate_names SET domain_id = (SELECT m.id FROM certificate_domains m JOIN inventory_domains_of d
    ON d.domain = m.domain WHERE d.name = certificate_names.name AND m.space = certificate_names.space);
UPDATE certificates SET
    space = (SELECT s.number FROM inventory_spaces s WHERE s.project_id = certificates.project_id),
    group_id = (SELECT g.id FROM certificate_groups g WHERE g.project_id = certificates.project_id
        AND g.authority_id = COALESCE(certificates.authority_id, CAST('' AS BLOB))
        AND g.profile_id = COALESCE(certificates.profile_id, CAST('' AS BLOB))
        AND g.key_algorithm = certificates.key_algorithm AND g.signature_algorithm = certificates.signature_algorithm
        AND g.extended_key_usages = certificates.extended_key_usages),
    domain_id = (SELECT m.id FROM inventory_domains_of d JOIN certificate_domains m ON m.domain = d.domain
        JOIN inventory_spaces s ON s.number = m.space
        WHERE d.name = substr(lower(certificates.common_name), 1, 255) AND s.project_id = certificates.project_id)
    WHERE is_listed = 1;
DROP TABLE inventory_domains_of;
INSERT INTO certificate_counts (group_id, status, day, node, certificates)
    SELECT group_id, status, not_after / 86400000, 0, COUNT(*) FROM certificates WHERE group_id IS NOT NULL
    GROUP BY group_id, status, not_after / 86400000;

-- What the group says of its certificates is said there alone.
ALTER TABLE certificates DROP COLUMN key_algorithm;
ALTER TABLE certificates DROP COLUMN signature_algorithm;
ALTER TABLE certificates DROP COLUMN extended_key_usages;

-- The orders that lists are given in, for a project and for a group; then the names.
DROP INDEX certificates_project;
DROP INDEX certificates_profile;
CREATE INDEX certificates_space ON certificates (space, created_at, pk) WHERE space IS NOT NULL;
CREATE INDEX certificates_group ON certificates (group_id, created_at, pk) WHERE group_id IS NOT NULL;
CREATE INDEX certificates_revoked ON certificates (space, created_at, pk) WHERE space IS NOT NULL AND status = 1;
CREATE INDEX certificates_not_before ON certificates (space, not_before, pk) WHERE space IS NOT NULL;
CREATE INDEX certificates_not_after ON certificates (space, not_after, pk, status, group_id) WHERE space IS NOT NULL;
CREATE INDEX certificates_day ON certificates (space, (not_after / 86400000), created_at, pk) WHERE space IS NOT NULL;
CREATE INDEX certificates_name ON certificates (space, substr(lower(common_name), 1, 255), pk) WHERE space IS NOT NULL;
CREATE INDEX certificates_domain ON certificates (domain_id, pk) WHERE domain_id IS NOT NULL;
CREATE INDEX certificate_names_name ON certificate_names (space, name, certificate_pk);
CREATE INDEX certificate_names_domain ON certificate_names (domain_id, certificate_pk) WHERE domain_id IS NOT NULL;
