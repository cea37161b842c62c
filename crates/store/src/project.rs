//! Organisations and projects.

use crate::changes::Statement;
use crate::columns::time;
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::identity::{Organization, Project};
use domain::{OrganizationId, ProjectId, Time};

/// The only organisation of the server, or the first one.
pub async fn first_organization(db: &Db) -> Result<Option<Organization>, StoreError> {
    let row = db.row("SELECT id, name, slug FROM organizations ORDER BY created_at LIMIT 1", vec![]).await?;
    row.as_ref().map(organization_from).transpose()
}

/// An organisation by its id.
pub async fn organization(db: &Db, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
    let row = db.row("SELECT id, name, slug FROM organizations WHERE id = $1", params![id]).await?;
    row.as_ref().map(organization_from).transpose()
}

/// Adds an organisation.
pub fn insert_organization(organization: &Organization, now: Time) -> Statement {
    Statement::new(
        "INSERT INTO organizations (id, name, slug, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
        params![organization.id, organization.name.as_str(), organization.slug.as_str(), now],
    )
}

/// A project of the organisation by its id.
pub async fn by_id(db: &Db, organization: OrganizationId, id: ProjectId) -> Result<Option<Project>, StoreError> {
    let row = db
        .row(
            "SELECT id, organization_id, name, slug, description, kind, has_delete_protection, created_at, updated_at
             FROM projects WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
            params![organization, id],
        )
        .await?;
    row.as_ref().map(project_from).transpose()
}

/// A project of the organisation by its short name.
pub async fn by_slug(db: &Db, organization: OrganizationId, slug: &str) -> Result<Option<Project>, StoreError> {
    let row = db
        .row(
            "SELECT id, organization_id, name, slug, description, kind, has_delete_protection, created_at, updated_at
             FROM projects WHERE organization_id = $1 AND slug = $2 AND deleted_at IS NULL",
            params![organization, slug],
        )
        .await?;
    row.as_ref().map(project_from).transpose()
}

/// The organisation's projects, oldest first.
pub async fn list(db: &Db, organization: OrganizationId) -> Result<Vec<Project>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, organization_id, name, slug, description, kind, has_delete_protection, created_at, updated_at
             FROM projects WHERE organization_id = $1 AND deleted_at IS NULL ORDER BY created_at, id LIMIT 1000",
            params![organization],
        )
        .await?;
    rows.iter().map(project_from).collect()
}

/// Every project of every organisation, oldest first.
pub async fn all(db: &Db) -> Result<Vec<ProjectId>, StoreError> {
    let rows = db.rows("SELECT id FROM projects WHERE deleted_at IS NULL ORDER BY created_at, id", params![]).await?;
    rows.iter().map(|row| Ok(ProjectId(row.uuid(0)?))).collect()
}

/// The organisation of a project.
pub async fn organization_of(db: &Db, project: ProjectId) -> Result<Option<OrganizationId>, StoreError> {
    let row = db.row("SELECT organization_id FROM projects WHERE id = $1", params![project]).await?;
    row.map(|row| Ok(OrganizationId(row.uuid(0)?))).transpose()
}

/// The project that is meant when a request names none: the oldest one for certificates.
pub async fn default_of(db: &Db, organization: OrganizationId) -> Result<Option<ProjectId>, StoreError> {
    let row = db
        .row(
            "SELECT id FROM projects WHERE organization_id = $1 AND kind = $2 AND deleted_at IS NULL
             ORDER BY created_at, id LIMIT 1",
            params![organization, domain::identity::PROJECT_KIND_CERTIFICATES],
        )
        .await?;
    row.map(|row| Ok(ProjectId(row.uuid(0)?))).transpose()
}

/// Adds a project.
pub fn insert(project: &Project) -> Statement {
    Statement::new(
        "INSERT INTO projects (id, organization_id, name, slug, description, kind, has_delete_protection, created_at,
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            project.id,
            project.organization,
            project.name.as_str(),
            project.slug.as_str(),
            project.description.as_deref(),
            project.kind.as_str(),
            project.has_delete_protection,
            project.created_at,
            project.updated_at,
        ],
    )
}

/// Writes the parts of a project that can change.
pub fn update(project: &Project) -> Statement {
    Statement::new(
        "UPDATE projects SET name = $3, slug = $4, description = $5, has_delete_protection = $6, updated_at = $7
         WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
        params![
            project.organization,
            project.id,
            project.name.as_str(),
            project.slug.as_str(),
            project.description.as_deref(),
            project.has_delete_protection,
            project.updated_at,
        ],
    )
    .expect_one("the project is there")
}

/// Hides a project. Its revocations and certificates stay, so that its lists stay true.
pub fn delete(organization: OrganizationId, id: ProjectId, now: Time) -> Statement {
    Statement::new(
        "UPDATE projects SET deleted_at = $3 WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL
         AND has_delete_protection = 0",
        params![organization, id, now],
    )
    .expect_one("the project is there and not protected")
}

fn organization_from(row: &Row) -> Result<Organization, StoreError> {
    Ok(Organization { id: OrganizationId(row.uuid(0)?), name: row.text(1)?.into(), slug: row.text(2)?.into() })
}

fn project_from(row: &Row) -> Result<Project, StoreError> {
    Ok(Project {
        id: ProjectId(row.uuid(0)?),
        organization: OrganizationId(row.uuid(1)?),
        name: row.text(2)?.into(),
        slug: row.text(3)?.into(),
        description: row.opt_text(4)?.map(Into::into),
        kind: row.text(5)?.into(),
        has_delete_protection: row.bool(6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    })
}
