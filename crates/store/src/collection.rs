//! Collections and their members.

use crate::changes::Statement;
use crate::columns::{opt_time, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::collection::{Collection, CollectionItem, Member, MemberKind};
use domain::{AuthorityId, CertificateId, CollectionId, CollectionItemId, OrganizationId, ProjectId, Time};

macro_rules! select_collection {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.project_id, c.name, c.description, c.created_at, c.updated_at FROM certificate_collections c
             JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// A collection of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: CollectionId) -> Result<Option<Collection>, StoreError> {
    let sql = select_collection!("WHERE c.id = $2 AND p.organization_id = $1");
    db.row(sql, params![organization, id]).await?.as_ref().map(collection_from).transpose()
}

/// The collections of a project, oldest first, at most 10,000.
pub async fn list(db: &Db, project: ProjectId) -> Result<Vec<Collection>, StoreError> {
    let sql = select_collection!("WHERE c.project_id = $1 ORDER BY c.created_at, c.id LIMIT 10000");
    db.rows(sql, params![project]).await?.iter().map(collection_from).collect()
}

/// Adds a collection.
pub fn insert(collection: &Collection) -> Statement {
    Statement::new(
        "INSERT INTO certificate_collections (id, project_id, name, description, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            collection.id,
            collection.project,
            collection.name.as_str(),
            collection.description.as_str(),
            collection.created_at,
            collection.updated_at,
        ],
    )
}

/// Writes a collection.
pub fn update(collection: &Collection) -> Statement {
    Statement::new(
        "UPDATE certificate_collections SET name = $3, description = $4, updated_at = $5
         WHERE project_id = $1 AND id = $2",
        params![
            collection.project,
            collection.id,
            collection.name.as_str(),
            collection.description.as_str(),
            collection.updated_at,
        ],
    )
    .expect_one("the collection is there")
}

/// Removes a collection. Its members stay what they are.
pub fn delete(project: ProjectId, id: CollectionId) -> Statement {
    let sql = "DELETE FROM certificate_collections WHERE project_id = $1 AND id = $2";
    Statement::new(sql, params![project, id]).expect_one("the collection is there")
}

/// Puts a certificate or an authority of the project into a collection of it.
pub fn add(project: ProjectId, collection: CollectionId, id: CollectionItemId, member: Member, at: Time) -> Statement {
    let sql = match member {
        Member::Certificate(_) => {
            "INSERT INTO certificate_collection_items (id, project_id, collection_id, certificate_pk, created_at)
             SELECT $4, g.project_id, g.id, c.pk, CAST($5 AS BIGINT) FROM certificate_collections g
             JOIN certificates c ON c.project_id = g.project_id AND c.id = $3
             WHERE g.project_id = $1 AND g.id = $2 FOR SHARE"
        }
        Member::Authority(_) => {
            "INSERT INTO certificate_collection_items (id, project_id, collection_id, authority_id, created_at)
             SELECT $4, g.project_id, g.id, a.id, CAST($5 AS BIGINT) FROM certificate_collections g
             JOIN authorities a ON a.project_id = g.project_id AND a.id = $3 AND a.deleted_at IS NULL
             WHERE g.project_id = $1 AND g.id = $2 FOR SHARE"
        }
    };
    Statement::new(sql, params![project, collection, member.id(), id, at])
        .expect_one("the collection and its member are there")
}

/// Takes a member out of a collection.
pub fn remove(collection: CollectionId, id: CollectionItemId) -> Statement {
    let sql = "DELETE FROM certificate_collection_items WHERE collection_id = $1 AND id = $2";
    Statement::new(sql, params![collection, id]).expect_one("the member is in the collection")
}

/// Takes an authority out of every collection.
pub fn remove_authority(project: ProjectId, authority: AuthorityId) -> Statement {
    let sql = "DELETE FROM certificate_collection_items WHERE project_id = $1 AND authority_id = $2";
    Statement::new(sql, params![project, authority])
}

macro_rules! select_item {
    ($rest:literal) => {
        concat!(
            "SELECT i.id, i.collection_id, c.id, a.id, COALESCE(c.not_before, a.not_before),
             COALESCE(c.not_after, a.not_after), c.common_name, c.details, a.configuration, i.created_at
             FROM certificate_collection_items i LEFT JOIN certificates c ON c.pk = i.certificate_pk
             LEFT JOIN authorities a ON a.id = i.authority_id ",
            $rest
        )
    };
}

/// A member of a collection.
pub async fn item(
    db: &Db,
    collection: CollectionId,
    id: CollectionItemId,
) -> Result<Option<CollectionItem>, StoreError> {
    let sql = select_item!("WHERE i.collection_id = $1 AND i.id = $2");
    db.row(sql, params![collection, id]).await?.as_ref().map(item_from).transpose()
}

/// Members of a collection, oldest first, and how many there are.
pub async fn items(
    db: &Db,
    collection: CollectionId,
    kind: Option<MemberKind>,
    offset: u32,
    limit: u32,
) -> Result<(Vec<CollectionItem>, i64), StoreError> {
    let kind = kind.map_or("", MemberKind::as_str);
    let rows = db
        .rows(
            select_item!(
                "WHERE i.collection_id = $1 AND ($2 = '' OR ($2 = 'ca' AND i.authority_id IS NOT NULL)
                 OR ($2 = 'certificate' AND i.certificate_pk IS NOT NULL))
                 ORDER BY i.created_at, i.id LIMIT $3 OFFSET $4"
            ),
            params![collection, kind, limit, offset],
        )
        .await?;
    let total = db
        .row(
            "SELECT COUNT(*) FROM certificate_collection_items i WHERE i.collection_id = $1
             AND ($2 = '' OR ($2 = 'ca' AND i.authority_id IS NOT NULL)
             OR ($2 = 'certificate' AND i.certificate_pk IS NOT NULL))",
            params![collection, kind],
        )
        .await?;
    Ok((rows.iter().map(item_from).collect::<Result<_, _>>()?, total.map_or(Ok(0), |row| row.int(0))?))
}

fn collection_from(row: &Row) -> Result<Collection, StoreError> {
    Ok(Collection {
        id: CollectionId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        name: row.string(2)?,
        description: row.string(3)?,
        created_at: time(row, 4)?,
        updated_at: time(row, 5)?,
    })
}

fn item_from(row: &Row) -> Result<CollectionItem, StoreError> {
    let member = match (row.opt_uuid(2)?, row.opt_uuid(3)?) {
        (Some(certificate), _) => Member::Certificate(CertificateId(certificate)),
        (None, Some(authority)) => Member::Authority(AuthorityId(authority)),
        (None, None) => return Err(StoreError::Corrupt("a member of a collection is nothing".into())),
    };
    let named = |column, name: &str| -> Result<Option<String>, StoreError> {
        let Some(text) = row.opt_text(column)? else { return Ok(None) };
        let document: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| StoreError::Corrupt(format!("column {column} is no document: {error}")))?;
        Ok(document[name].as_str().map(str::to_owned))
    };
    let friendly_name = match member {
        Member::Certificate(_) => named(7, "friendlyName")?.or(row.opt_text(6)?.map(str::to_owned)),
        Member::Authority(_) => named(8, "friendlyName")?,
    };
    Ok(CollectionItem {
        id: CollectionItemId(row.uuid(0)?),
        collection: CollectionId(row.uuid(1)?),
        member,
        not_before: opt_time(row, 4)?,
        not_after: opt_time(row, 5)?,
        friendly_name: friendly_name.unwrap_or_default(),
        created_at: time(row, 9)?,
    })
}
