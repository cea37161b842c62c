//! Policies and profiles, and their versions.

use crate::changes::{Changes, Statement};
use crate::columns::{document, number, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::profile::{Enrollment, IssuerKind, Policy, Profile};
use domain::{AuthorityId, OrganizationId, PolicyId, ProfileId, ProjectId};

macro_rules! select_policy {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.project_id, t.name, t.description, t.version, t.rules, t.created_at, t.updated_at
             FROM policies t JOIN projects p ON p.id = t.project_id AND p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// A policy of the organisation.
pub async fn policy(db: &Db, organization: OrganizationId, id: PolicyId) -> Result<Option<Policy>, StoreError> {
    let row = db.row(select_policy!("WHERE t.id = $2 AND p.organization_id = $1"), params![organization, id]).await?;
    row.as_ref().map(policy_from).transpose()
}

/// Policies of a project whose name holds a text, oldest first, and how many there are.
pub async fn policies(
    db: &Db,
    project: ProjectId,
    search: &str,
    offset: u32,
    limit: u32,
) -> Result<(Vec<Policy>, i64), StoreError> {
    let pattern = like(search);
    let rows = db
        .rows(
            select_policy!(
                "WHERE t.project_id = $1 AND lower(t.name) LIKE lower($2) ESCAPE '\\' ORDER BY t.created_at, t.id LIMIT $3 OFFSET $4"
            ),
            params![project, pattern.as_str(), limit, offset],
        )
        .await?;
    let total = db
        .row(
            "SELECT COUNT(*) FROM policies WHERE project_id = $1 AND lower(name) LIKE lower($2) ESCAPE '\\'",
            params![project, pattern.as_str()],
        )
        .await?;
    Ok((rows.iter().map(policy_from).collect::<Result<_, _>>()?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// Whether a name is taken in the project.
pub async fn policy_name_is_taken(db: &Db, project: ProjectId, name: &str) -> Result<bool, StoreError> {
    let row = db.row("SELECT 1 FROM policies WHERE project_id = $1 AND name = $2", params![project, name]).await?;
    Ok(row.is_some())
}

/// Adds a policy and its first version.
pub fn insert_policy(policy: &Policy) -> Changes {
    Changes::new()
        .statement(Statement::new(
            "INSERT INTO policies (id, project_id, name, description, version, rules, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                policy.id,
                policy.project,
                policy.name.as_str(),
                policy.description.as_deref(),
                policy.version,
                document(&policy.rules),
                policy.created_at,
                policy.updated_at,
            ],
        ))
        .statement(policy_version(policy))
}

/// Writes a policy that was read as `policy.version - 1`, and keeps the new version.
pub fn update_policy(policy: &Policy) -> Changes {
    Changes::new()
        .statement(
            Statement::new(
                "UPDATE policies SET name = $4, description = $5, version = $6, rules = $7, updated_at = $8
                 WHERE project_id = $1 AND id = $2 AND version = $3",
                params![
                    policy.project,
                    policy.id,
                    policy.version - 1,
                    policy.name.as_str(),
                    policy.description.as_deref(),
                    policy.version,
                    document(&policy.rules),
                    policy.updated_at,
                ],
            )
            .expect_one("the policy is as it was when this was decided"),
        )
        .statement(policy_version(policy))
}

fn policy_version(policy: &Policy) -> Statement {
    Statement::new(
        "INSERT INTO policy_versions (policy_id, version, rules, created_at) VALUES ($1, $2, $3, $4)",
        params![policy.id, policy.version, document(&policy.rules), policy.updated_at],
    )
}

/// Removes a policy that no profile uses. Its versions stay: certificates name them.
pub fn delete_policy(project: ProjectId, id: PolicyId) -> Statement {
    Statement::new("DELETE FROM policies WHERE project_id = $1 AND id = $2", params![project, id])
        .expect_one("the policy is there")
}

/// How many profiles use a policy.
pub async fn profiles_of_policy(db: &Db, project: ProjectId, id: PolicyId) -> Result<i64, StoreError> {
    let row =
        db.row("SELECT COUNT(*) FROM profiles WHERE project_id = $1 AND policy_id = $2", params![project, id]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

macro_rules! select_profile {
    ($rest:literal) => {
        concat!(
            "SELECT f.id, f.project_id, f.slug, f.description, f.version, f.enrollment, f.policy_id, f.document,
             f.created_at, f.updated_at
             FROM profiles f JOIN projects p ON p.id = f.project_id AND p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// A profile of the organisation.
pub async fn by_id(db: &Db, organization: OrganizationId, id: ProfileId) -> Result<Option<Profile>, StoreError> {
    let row = db.row(select_profile!("WHERE f.id = $2 AND p.organization_id = $1"), params![organization, id]).await?;
    row.as_ref().map(profile_from).transpose()
}

/// A profile of the project by its short name.
pub async fn by_slug(db: &Db, project: ProjectId, slug: &str) -> Result<Option<Profile>, StoreError> {
    let row = db.row(select_profile!("WHERE f.project_id = $1 AND f.slug = $2"), params![project, slug]).await?;
    row.as_ref().map(profile_from).transpose()
}

/// What a list of profiles is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct ProfileFilter {
    /// Part of the slug.
    pub search: String,
    /// Only this enrollment.
    pub enrollment: Option<Enrollment>,
    /// Only this kind of issuer.
    pub issuer: Option<IssuerKind>,
    /// Only this authority.
    pub authority: Option<AuthorityId>,
}

/// Profiles of a project, oldest first, and how many there are.
pub async fn list(
    db: &Db,
    project: ProjectId,
    filter: &ProfileFilter,
    offset: u32,
    limit: u32,
) -> Result<(Vec<Profile>, i64), StoreError> {
    let conditions = params![
        project,
        like(&filter.search).as_str(),
        filter.enrollment.map_or("", Enrollment::as_str),
        filter.issuer.map_or("", IssuerKind::as_str),
        filter.authority,
        filter.authority.is_some(),
    ];
    let mut page = conditions.clone();
    page.extend(params![limit, offset]);
    let rows = db
        .rows(
            select_profile!(
                "WHERE f.project_id = $1 AND lower(f.slug) LIKE lower($2) ESCAPE '\\' AND ($3 = '' OR f.enrollment = $3)
                 AND ($4 = '' OR f.issuer = $4) AND ($6 = 0 OR f.authority_id = $5)
                 ORDER BY f.created_at, f.id LIMIT $7 OFFSET $8"
            ),
            page,
        )
        .await?;
    let total = db
        .row(
            "SELECT COUNT(*) FROM profiles f WHERE f.project_id = $1 AND lower(f.slug) LIKE lower($2) ESCAPE '\\'
             AND ($3 = '' OR f.enrollment = $3) AND ($4 = '' OR f.issuer = $4)
             AND ($6 = 0 OR f.authority_id = $5)",
            conditions,
        )
        .await?;
    Ok((rows.iter().map(profile_from).collect::<Result<_, _>>()?, total.map_or(Ok(0), |row| row.int(0))?))
}

/// Adds a profile and its first version.
pub fn insert(profile: &Profile) -> Changes {
    Changes::new()
        .statement(Statement::new(
            "INSERT INTO profiles (id, project_id, slug, description, version, enrollment, issuer, authority_id,
             policy_id, document, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            params![
                profile.id,
                profile.project,
                profile.slug.as_str(),
                profile.description.as_deref(),
                profile.version,
                profile.enrollment.as_str(),
                profile.document.issuer.as_str(),
                profile.authority(),
                profile.policy,
                document(&profile.document),
                profile.created_at,
                profile.updated_at,
            ],
        ))
        .statement(profile_version(profile))
}

/// Writes a profile that was read as `profile.version - 1`, and keeps the new version.
pub fn update(profile: &Profile) -> Changes {
    Changes::new()
        .statement(
            Statement::new(
                "UPDATE profiles SET slug = $4, description = $5, version = $6, enrollment = $7, issuer = $8,
                 authority_id = $9, document = $10, updated_at = $11
                 WHERE project_id = $1 AND id = $2 AND version = $3",
                params![
                    profile.project,
                    profile.id,
                    profile.version - 1,
                    profile.slug.as_str(),
                    profile.description.as_deref(),
                    profile.version,
                    profile.enrollment.as_str(),
                    profile.document.issuer.as_str(),
                    profile.authority(),
                    document(&profile.document),
                    profile.updated_at,
                ],
            )
            .expect_one("the profile is as it was when this was decided"),
        )
        .statement(profile_version(profile))
}

fn profile_version(profile: &Profile) -> Statement {
    Statement::new(
        "INSERT INTO profile_versions (profile_id, version, authority_id, policy_id, document, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            profile.id,
            profile.version,
            profile.authority(),
            profile.policy,
            document(&profile.document),
            profile.updated_at,
        ],
    )
}

/// Removes a profile. Its versions stay: certificates name them.
pub fn delete(project: ProjectId, id: ProfileId) -> Statement {
    Statement::new("DELETE FROM profiles WHERE project_id = $1 AND id = $2", params![project, id])
        .expect_one("the profile is there")
}

/// Holds a commit to the profile and the policy that it was decided on.
pub fn is_unchanged(profile: &Profile, policy_version: u32) -> Statement {
    Statement::new(
        "SELECT 1 FROM profiles f JOIN policies t ON t.id = f.policy_id
         WHERE f.project_id = $1 AND f.id = $2 AND f.version = $3 AND t.version = $4 FOR SHARE",
        params![profile.project, profile.id, profile.version, policy_version],
    )
    .expect_one("the profile and its policy are as they were when this was decided")
}

/// A pattern that finds a text anywhere.
pub(crate) fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn policy_from(row: &Row) -> Result<Policy, StoreError> {
    Ok(Policy {
        id: PolicyId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        name: row.text(2)?.into(),
        description: row.opt_text(3)?.map(Into::into),
        version: number(row, 4)?,
        rules: parse_document(row, 5)?,
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
    })
}

fn profile_from(row: &Row) -> Result<Profile, StoreError> {
    Ok(Profile {
        id: ProfileId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        slug: row.text(2)?.into(),
        description: row.opt_text(3)?.map(Into::into),
        version: number(row, 4)?,
        enrollment: word(row, 5, Enrollment::parse)?,
        policy: PolicyId(row.uuid(6)?),
        document: parse_document(row, 7)?,
        created_at: time(row, 8)?,
        updated_at: time(row, 9)?,
    })
}
