//! Machine identities, their memberships, and the custom roles of projects.

use crate::changes::Statement;
use crate::columns::{document, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::caller::OrganizationRole;
use domain::identity::{Identity, Membership, RoleAssignment};
use domain::role::CustomRole;
use domain::{IdentityId, MembershipId, OrganizationId, ProjectId, RoleId};

/// An identity of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: IdentityId) -> Result<Option<Identity>, StoreError> {
    let row = db
        .row(
            "SELECT i.id, i.organization_id, i.name, i.organization_role, i.has_delete_protection, i.metadata,
             i.created_at, i.updated_at, u.id
             FROM identities i LEFT JOIN universal_auths u ON u.identity_id = i.id
             WHERE i.organization_id = $1 AND i.id = $2",
            params![organization, id],
        )
        .await?;
    row.as_ref().map(identity_from).transpose()
}

/// An identity wherever it is, for a token that was signed by this server.
pub async fn by_token(db: &Db, id: IdentityId) -> Result<Option<Identity>, StoreError> {
    let row = db
        .row(
            "SELECT i.id, i.organization_id, i.name, i.organization_role, i.has_delete_protection, i.metadata,
             i.created_at, i.updated_at, u.id
             FROM identities i LEFT JOIN universal_auths u ON u.identity_id = i.id WHERE i.id = $1",
            params![id],
        )
        .await?;
    row.as_ref().map(identity_from).transpose()
}

/// The identities of the organisation, oldest first.
pub async fn list(db: &Db, organization: OrganizationId, offset: u32, limit: u32) -> Result<Vec<Identity>, StoreError> {
    let rows = db
        .rows(
            "SELECT i.id, i.organization_id, i.name, i.organization_role, i.has_delete_protection, i.metadata,
             i.created_at, i.updated_at, u.id
             FROM identities i LEFT JOIN universal_auths u ON u.identity_id = i.id
             WHERE i.organization_id = $1 ORDER BY i.created_at, i.id LIMIT $2 OFFSET $3",
            params![organization, limit, offset],
        )
        .await?;
    rows.iter().map(identity_from).collect()
}

/// How many identities the organisation has.
pub async fn count(db: &Db, organization: OrganizationId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM identities WHERE organization_id = $1", params![organization]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Adds an identity.
pub fn insert(identity: &Identity) -> Statement {
    Statement::new(
        "INSERT INTO identities (id, organization_id, name, organization_role, has_delete_protection, metadata,
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            identity.id,
            identity.organization,
            identity.name.as_str(),
            identity.role.as_str(),
            identity.has_delete_protection,
            document(&identity.metadata),
            identity.created_at,
            identity.updated_at,
        ],
    )
}

/// Writes the parts of an identity that can change.
pub fn update(identity: &Identity) -> Statement {
    Statement::new(
        "UPDATE identities SET name = $3, organization_role = $4, has_delete_protection = $5, metadata = $6,
         updated_at = $7 WHERE organization_id = $1 AND id = $2",
        params![
            identity.organization,
            identity.id,
            identity.name.as_str(),
            identity.role.as_str(),
            identity.has_delete_protection,
            document(&identity.metadata),
            identity.updated_at,
        ],
    )
    .expect_one("the identity is there")
}

/// Removes an identity with its credentials, tokens and memberships.
pub fn delete(organization: OrganizationId, id: IdentityId) -> Statement {
    Statement::new(
        "DELETE FROM identities WHERE organization_id = $1 AND id = $2 AND has_delete_protection = 0",
        params![organization, id],
    )
    .expect_one("the identity is there and not protected")
}

/// Every membership of an identity.
pub async fn memberships(db: &Db, identity: IdentityId) -> Result<Vec<Membership>, StoreError> {
    let rows = db
        .rows(
            "SELECT m.id, m.project_id, m.identity_id, i.name, m.roles, m.created_at, m.updated_at
             FROM memberships m JOIN identities i ON i.id = m.identity_id
             JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
             WHERE m.identity_id = $1",
            params![identity],
        )
        .await?;
    rows.iter().map(membership_from).collect()
}

/// The members of a project, oldest first, each with its identity.
pub async fn members(
    db: &Db,
    project: ProjectId,
    offset: u32,
    limit: u32,
) -> Result<Vec<(Membership, Identity)>, StoreError> {
    let rows = db
        .rows(
            "SELECT m.id, m.project_id, m.identity_id, i.name, m.roles, m.created_at, m.updated_at,
             i.id, i.organization_id, i.name, i.organization_role, i.has_delete_protection, i.metadata,
             i.created_at, i.updated_at, u.id
             FROM memberships m JOIN identities i ON i.id = m.identity_id
             LEFT JOIN universal_auths u ON u.identity_id = i.id
             WHERE m.project_id = $1 ORDER BY m.created_at, m.id LIMIT $2 OFFSET $3",
            params![project, limit, offset],
        )
        .await?;
    rows.iter().map(|row| Ok((membership_from(row)?, identity_at(row, 7)?))).collect()
}

/// How many members a project has.
pub async fn count_members(db: &Db, project: ProjectId) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) FROM memberships WHERE project_id = $1", params![project]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// The roles of every member of a project.
pub async fn held_roles(db: &Db, project: ProjectId) -> Result<Vec<RoleAssignment>, StoreError> {
    let rows = db.rows("SELECT roles FROM memberships WHERE project_id = $1", params![project]).await?;
    let mut held = Vec::new();
    for row in &rows {
        held.extend(parse_document::<Vec<RoleAssignment>>(row, 0)?);
    }
    Ok(held)
}

/// The membership of one identity in one project.
pub async fn membership(db: &Db, project: ProjectId, identity: IdentityId) -> Result<Option<Membership>, StoreError> {
    let row = db
        .row(
            "SELECT m.id, m.project_id, m.identity_id, i.name, m.roles, m.created_at, m.updated_at
             FROM memberships m JOIN identities i ON i.id = m.identity_id
             WHERE m.project_id = $1 AND m.identity_id = $2",
            params![project, identity],
        )
        .await?;
    row.as_ref().map(membership_from).transpose()
}

/// Adds a membership.
pub fn insert_membership(membership: &Membership) -> Statement {
    Statement::new(
        "INSERT INTO memberships (id, project_id, identity_id, roles, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            membership.id,
            membership.project,
            membership.identity,
            document(&membership.roles),
            membership.created_at,
            membership.updated_at,
        ],
    )
}

/// Writes the roles of a membership.
pub fn update_membership(membership: &Membership) -> Statement {
    Statement::new(
        "UPDATE memberships SET roles = $3, updated_at = $4 WHERE project_id = $1 AND identity_id = $2",
        params![membership.project, membership.identity, document(&membership.roles), membership.updated_at],
    )
    .expect_one("the membership is there")
}

/// Removes a membership.
pub fn delete_membership(project: ProjectId, identity: IdentityId) -> Statement {
    Statement::new("DELETE FROM memberships WHERE project_id = $1 AND identity_id = $2", params![project, identity])
        .expect_one("the membership is there")
}

/// The custom roles of a project, by name.
pub async fn roles(db: &Db, project: ProjectId) -> Result<Vec<CustomRole>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, project_id, slug, name, description, permissions, created_at, updated_at
             FROM roles WHERE project_id = $1 ORDER BY slug",
            params![project],
        )
        .await?;
    rows.iter().map(role_from).collect()
}

/// Adds a custom role.
pub fn insert_role(role: &CustomRole) -> Statement {
    Statement::new(
        "INSERT INTO roles (id, project_id, slug, name, description, permissions, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            role.id,
            role.project,
            role.slug.as_str(),
            role.name.as_str(),
            role.description.as_deref(),
            document(&role.permissions),
            role.created_at,
            role.updated_at,
        ],
    )
}

/// Writes a custom role.
pub fn update_role(role: &CustomRole) -> Statement {
    Statement::new(
        "UPDATE roles SET slug = $3, name = $4, description = $5, permissions = $6, updated_at = $7
         WHERE project_id = $1 AND id = $2",
        params![
            role.project,
            role.id,
            role.slug.as_str(),
            role.name.as_str(),
            role.description.as_deref(),
            document(&role.permissions),
            role.updated_at,
        ],
    )
    .expect_one("the role is there")
}

/// Removes a custom role.
pub fn delete_role(project: ProjectId, id: RoleId) -> Statement {
    Statement::new("DELETE FROM roles WHERE project_id = $1 AND id = $2", params![project, id])
        .expect_one("the role is there")
}

fn identity_from(row: &Row) -> Result<Identity, StoreError> {
    identity_at(row, 0)
}

/// An identity whose columns begin at `first`.
fn identity_at(row: &Row, first: usize) -> Result<Identity, StoreError> {
    Ok(Identity {
        id: IdentityId(row.uuid(first)?),
        organization: OrganizationId(row.uuid(first + 1)?),
        name: row.text(first + 2)?.into(),
        role: word(row, first + 3, OrganizationRole::parse)?,
        has_delete_protection: row.bool(first + 4)?,
        metadata: parse_document(row, first + 5)?,
        created_at: time(row, first + 6)?,
        updated_at: time(row, first + 7)?,
        has_universal_auth: row.opt_blob(first + 8)?.is_some(),
    })
}

fn membership_from(row: &Row) -> Result<Membership, StoreError> {
    Ok(Membership {
        id: MembershipId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        identity: IdentityId(row.uuid(2)?),
        identity_name: row.text(3)?.into(),
        roles: parse_document::<Vec<RoleAssignment>>(row, 4)?,
        created_at: time(row, 5)?,
        updated_at: time(row, 6)?,
    })
}

fn role_from(row: &Row) -> Result<CustomRole, StoreError> {
    Ok(CustomRole {
        id: RoleId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        slug: row.text(2)?.into(),
        name: row.text(3)?.into(),
        description: row.opt_text(4)?.map(Into::into),
        permissions: parse_document(row, 5)?,
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
    })
}
