//! Templates of the first family. Policies, which are also called templates, are in `profile.rs`.

use crate::changes::Statement;
use crate::columns::{document, number, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::template::Template;
use domain::{AuthorityId, CollectionId, OrganizationId, ProjectId, TemplateId};

macro_rules! select_template {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.project_id, t.authority_id, t.collection_id, t.name, t.version, t.document, t.created_at,
             t.updated_at, a.name FROM templates t JOIN authorities a ON a.id = t.authority_id
             JOIN projects p ON p.id = t.project_id AND p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// A template with the name of its authority, which is shown with it.
#[derive(Clone, Debug)]
pub struct ShownTemplate {
    /// The template.
    pub template: Template,
    /// The name of its authority.
    pub authority_name: String,
}

/// A template of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: TemplateId) -> Result<Option<ShownTemplate>, StoreError> {
    let sql = select_template!("WHERE t.id = $2 AND p.organization_id = $1");
    db.row(sql, params![organization, id]).await?.as_ref().map(template_from).transpose()
}

/// The templates of a project, oldest first, at most 10,000.
pub async fn list(db: &Db, project: ProjectId) -> Result<Vec<ShownTemplate>, StoreError> {
    let sql = select_template!("WHERE t.project_id = $1 ORDER BY t.created_at, t.id LIMIT 10000");
    db.rows(sql, params![project]).await?.iter().map(template_from).collect()
}

/// The templates of an authority, oldest first, at most 10,000.
pub async fn of_authority(db: &Db, authority: AuthorityId) -> Result<Vec<ShownTemplate>, StoreError> {
    let sql = select_template!("WHERE t.authority_id = $1 ORDER BY t.created_at, t.id LIMIT 10000");
    db.rows(sql, params![authority]).await?.iter().map(template_from).collect()
}

/// Adds a template.
pub fn insert(template: &Template) -> Statement {
    Statement::new(
        "INSERT INTO templates (id, project_id, authority_id, collection_id, name, version, document, created_at,
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            template.id,
            template.project,
            template.authority,
            template.collection,
            template.name.as_str(),
            template.version,
            document(&template.document),
            template.created_at,
            template.updated_at,
        ],
    )
}

/// Writes a template that was read as `template.version - 1`.
pub fn update(template: &Template) -> Statement {
    Statement::new(
        "UPDATE templates SET authority_id = $4, collection_id = $5, name = $6, version = $7, document = $8,
         updated_at = $9 WHERE project_id = $1 AND id = $2 AND version = $3",
        params![
            template.project,
            template.id,
            template.version - 1,
            template.authority,
            template.collection,
            template.name.as_str(),
            template.version,
            document(&template.document),
            template.updated_at,
        ],
    )
    .expect_one("the template is as it was when this was decided")
}

/// Removes a template. What came from it stays.
pub fn delete(template: &Template) -> Statement {
    Statement::new(
        "DELETE FROM templates WHERE project_id = $1 AND id = $2 AND version = $3",
        params![template.project, template.id, template.version],
    )
    .expect_one("the template is as it was when this was decided")
}

/// Holds a commit to the template that it was decided on.
pub fn is_unchanged(template: &Template) -> Statement {
    Statement::new(
        "SELECT 1 FROM templates WHERE project_id = $1 AND id = $2 AND version = $3 FOR SHARE",
        params![template.project, template.id, template.version],
    )
    .expect_one("the template is as it was when this was decided")
}

fn template_from(row: &Row) -> Result<ShownTemplate, StoreError> {
    let template = Template {
        id: TemplateId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        authority: AuthorityId(row.uuid(2)?),
        collection: row.opt_uuid(3)?.map(CollectionId),
        name: row.string(4)?,
        version: number(row, 5)?,
        document: parse_document(row, 6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    };
    Ok(ShownTemplate { template, authority_name: row.string(9)? })
}
