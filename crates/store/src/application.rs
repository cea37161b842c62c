//! Applications, the profiles that are attached to them, and their members.

use crate::changes::Statement;
use crate::columns::{document, parse_document, time, word};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::profile::like;
use crate::value::Row;
use domain::application::{Application, ApplicationMember, ApplicationRole, Attachment};
use domain::{ApplicationId, AttachmentId, IdentityId, MembershipId, OrganizationId, ProfileId, ProjectId};

/// The constraint that keeps names unique in a project, as a [`StoreError::Conflict`] names it.
pub const UNIQUE_NAME: &str = "applications_name";

macro_rules! select_application {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.project_id, a.name, a.description, a.version, a.created_at, a.updated_at FROM applications a ",
            $rest
        )
    };
}

macro_rules! select_attachment {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.project_id, t.application_id, t.profile_id, t.enrollment, t.version, t.created_at, t.updated_at,
             f.slug, f.description FROM application_profiles t JOIN profiles f ON f.id = t.profile_id ",
            $rest
        )
    };
}

macro_rules! select_member {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.project_id, m.application_id, m.identity_id, m.role, m.created_at, m.updated_at, i.name, u.id
             FROM application_members m JOIN identities i ON i.id = m.identity_id
             LEFT JOIN universal_auths u ON u.identity_id = i.id ",
            $rest
        )
    };
}

/// An application in a list.
#[derive(Clone, Debug)]
pub struct ListedApplication {
    /// The application.
    pub application: Application,
    /// How many profiles are attached.
    pub profiles: i64,
    /// How many members it has.
    pub members: i64,
}

/// A profile that is attached, with its names.
#[derive(Clone, Debug)]
pub struct AttachedProfile {
    /// The attachment.
    pub attachment: Attachment,
    /// The slug of the profile.
    pub slug: String,
    /// What the profile is for.
    pub description: Option<String>,
}

/// A member with what is known of the identity.
#[derive(Clone, Debug)]
pub struct NamedMember {
    /// The membership.
    pub member: ApplicationMember,
    /// The name of the identity.
    pub identity_name: String,
    /// Whether Universal Auth is configured for it.
    pub has_universal_auth: bool,
}

/// A membership as the rights of its identity are made of it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The application.
    pub application: ApplicationId,
    /// Its project.
    pub project: ProjectId,
    /// The role.
    pub role: ApplicationRole,
    /// The slugs of the attached profiles, sorted.
    pub profiles: Vec<String>,
}

/// An application of the organisation.
pub async fn by_id(
    db: &Db,
    organization: OrganizationId,
    id: ApplicationId,
) -> Result<Option<Application>, StoreError> {
    let sql = select_application!(
        "JOIN projects p ON p.id = a.project_id WHERE a.id = $2 AND p.organization_id = $1 AND p.deleted_at IS NULL"
    );
    db.row(sql, params![organization, id]).await?.as_ref().map(application_from).transpose()
}

/// An application of the project by its name.
pub async fn by_name(db: &Db, project: ProjectId, name: &str) -> Result<Option<Application>, StoreError> {
    let sql = select_application!("WHERE a.project_id = $1 AND a.name = $2");
    db.row(sql, params![project, name]).await?.as_ref().map(application_from).transpose()
}

/// The applications of a project whose name or description holds a text, by name.
pub async fn list(
    db: &Db,
    project: ProjectId,
    search: &str,
    offset: u32,
    limit: u32,
) -> Result<Vec<ListedApplication>, StoreError> {
    let rows = db
        .rows(
            "SELECT a.id, a.project_id, a.name, a.description, a.version, a.created_at, a.updated_at,
             (SELECT COUNT(*) FROM application_profiles t WHERE t.application_id = a.id),
             (SELECT COUNT(*) FROM application_members m WHERE m.application_id = a.id)
             FROM applications a WHERE a.project_id = $1 AND (lower(a.name) LIKE lower($2) ESCAPE '\\'
             OR lower(COALESCE(a.description, '')) LIKE lower($2) ESCAPE '\\')
             ORDER BY a.name, a.id LIMIT $3 OFFSET $4",
            params![project, like(search), limit, offset],
        )
        .await?;
    let listed = rows.iter().map(|row| {
        Ok(ListedApplication { application: application_from(row)?, profiles: row.int(7)?, members: row.int(8)? })
    });
    listed.collect()
}

/// How many applications of a project have a name or description that holds a text.
pub async fn count(db: &Db, project: ProjectId, search: &str) -> Result<i64, StoreError> {
    let sql =
        "SELECT COUNT(*) FROM applications a WHERE a.project_id = $1 AND (lower(a.name) LIKE lower($2) ESCAPE '\\'
               OR lower(COALESCE(a.description, '')) LIKE lower($2) ESCAPE '\\')";
    db.row(sql, params![project, like(search)]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Adds an application.
pub fn insert(application: &Application) -> Statement {
    Statement::new(
        "INSERT INTO applications (id, project_id, name, description, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            application.id,
            application.project,
            application.name.as_str(),
            application.description.as_deref(),
            application.version,
            application.created_at,
            application.updated_at,
        ],
    )
}

/// Writes an application that was read as `application.version - 1`.
pub fn update(application: &Application) -> Statement {
    Statement::new(
        "UPDATE applications SET name = $4, description = $5, version = $6, updated_at = $7
         WHERE project_id = $1 AND id = $2 AND version = $3",
        params![
            application.project,
            application.id,
            application.version - 1,
            application.name.as_str(),
            application.description.as_deref(),
            application.version,
            application.updated_at,
        ],
    )
    .expect_one("the application is as it was when this was decided")
}

/// Removes an application with its attachments and memberships.
pub fn delete(project: ProjectId, id: ApplicationId) -> Statement {
    Statement::new("DELETE FROM applications WHERE project_id = $1 AND id = $2", params![project, id])
        .expect_one("the application is there")
}

/// The profiles that are attached to an application, the last one first.
pub async fn attached(db: &Db, application: ApplicationId) -> Result<Vec<AttachedProfile>, StoreError> {
    let sql = select_attachment!("WHERE t.application_id = $1 ORDER BY t.created_at DESC, t.id DESC");
    db.rows(sql, params![application]).await?.iter().map(attached_from).collect()
}

/// A profile's place in an application.
pub async fn attachment(
    db: &Db,
    application: ApplicationId,
    profile: ProfileId,
) -> Result<Option<AttachedProfile>, StoreError> {
    let sql = select_attachment!("WHERE t.application_id = $1 AND t.profile_id = $2");
    db.row(sql, params![application, profile]).await?.as_ref().map(attached_from).transpose()
}

/// The names of the applications that a profile is attached to, at most three, and how many there are.
pub async fn users_of_profile(db: &Db, profile: ProfileId) -> Result<(Vec<String>, i64), StoreError> {
    let rows = db
        .rows(
            "SELECT a.name, (SELECT COUNT(*) FROM application_profiles c WHERE c.profile_id = $1)
             FROM application_profiles t JOIN applications a ON a.id = t.application_id
             WHERE t.profile_id = $1 ORDER BY a.name LIMIT 3",
            params![profile],
        )
        .await?;
    let total = rows.first().map_or(Ok(0), |row| row.int(1))?;
    Ok((rows.iter().map(|row| row.string(0)).collect::<Result<_, _>>()?, total))
}

/// Attaches a profile to an application of the same project.
pub fn attach(attachment: &Attachment) -> Statement {
    Statement::new(
        "INSERT INTO application_profiles (id, project_id, application_id, profile_id, enrollment, version, created_at,
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            attachment.id,
            attachment.project,
            attachment.application,
            attachment.profile,
            document(&attachment.enrollment),
            attachment.version,
            attachment.created_at,
            attachment.updated_at,
        ],
    )
}

/// Writes how certificates are come to, in an attachment that was read as `attachment.version - 1`.
pub fn update_enrollment(attachment: &Attachment) -> Statement {
    Statement::new(
        "UPDATE application_profiles SET enrollment = $3, version = $4, updated_at = $5 WHERE id = $1 AND version = $2",
        params![
            attachment.id,
            attachment.version - 1,
            document(&attachment.enrollment),
            attachment.version,
            attachment.updated_at,
        ],
    )
    .expect_one("the attachment is as it was when this was decided")
}

/// Detaches a profile.
pub fn detach(id: AttachmentId) -> Statement {
    Statement::new("DELETE FROM application_profiles WHERE id = $1", params![id]).expect_one("the profile is attached")
}

/// Holds a commit to the attachment that it was decided on.
pub fn is_unchanged(attachment: &Attachment) -> Statement {
    Statement::new(
        "SELECT 1 FROM application_profiles WHERE id = $1 AND version = $2 FOR SHARE",
        params![attachment.id, attachment.version],
    )
    .expect_one("the profile is attached to the application as it was when this was decided")
}

/// The members of an application, oldest first.
pub async fn members(db: &Db, application: ApplicationId) -> Result<Vec<NamedMember>, StoreError> {
    let sql = select_member!("WHERE m.application_id = $1 ORDER BY m.created_at, m.id");
    db.rows(sql, params![application]).await?.iter().map(member_from).collect()
}

/// An identity's membership of an application.
pub async fn member(
    db: &Db,
    application: ApplicationId,
    identity: IdentityId,
) -> Result<Option<NamedMember>, StoreError> {
    let sql = select_member!("WHERE m.application_id = $1 AND m.identity_id = $2");
    db.row(sql, params![application, identity]).await?.as_ref().map(member_from).transpose()
}

/// How many members an application has.
pub async fn count_members(db: &Db, application: ApplicationId) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM application_members WHERE application_id = $1";
    db.row(sql, params![application]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Adds a member.
pub fn insert_member(member: &ApplicationMember) -> Statement {
    Statement::new(
        "INSERT INTO application_members (id, project_id, application_id, identity_id, role, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            member.id,
            member.project,
            member.application,
            member.identity,
            member.role.as_str(),
            member.created_at,
            member.updated_at,
        ],
    )
}

/// Gives a member another role than the one that it was read with.
pub fn update_member(member: &ApplicationMember, before: ApplicationRole) -> Statement {
    Statement::new(
        "UPDATE application_members SET role = $3, updated_at = $4 WHERE id = $1 AND role = $2",
        params![member.id, before.as_str(), member.role.as_str(), member.updated_at],
    )
    .expect_one("the member has the role that it had when this was decided")
}

/// Removes a member that has the role that it was read with.
pub fn delete_member(member: &ApplicationMember) -> Statement {
    let sql = "DELETE FROM application_members WHERE id = $1 AND role = $2";
    Statement::new(sql, params![member.id, member.role.as_str()])
        .expect_one("the member has the role that it had when this was decided")
}

/// Every application that an identity is a member of.
pub async fn accesses(db: &Db, identity: IdentityId) -> Result<Vec<Access>, StoreError> {
    let rows = db
        .rows(
            "SELECT m.application_id, m.project_id, m.role, f.slug FROM application_members m
             JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
             LEFT JOIN application_profiles t ON t.application_id = m.application_id
             LEFT JOIN profiles f ON f.id = t.profile_id
             WHERE m.identity_id = $1 ORDER BY m.application_id, f.slug",
            params![identity],
        )
        .await?;
    let mut accesses: Vec<Access> = Vec::new();
    for row in &rows {
        let application = ApplicationId(row.uuid(0)?);
        if accesses.last().is_none_or(|last| last.application != application) {
            accesses.push(Access {
                application,
                project: ProjectId(row.uuid(1)?),
                role: word(row, 2, ApplicationRole::parse)?,
                profiles: Vec::new(),
            });
        }
        if let (Some(slug), Some(access)) = (row.opt_text(3)?, accesses.last_mut()) {
            access.profiles.push(slug.to_owned());
        }
    }
    Ok(accesses)
}

fn application_from(row: &Row) -> Result<Application, StoreError> {
    Ok(Application {
        id: ApplicationId(row.uuid(0)?),
        project: ProjectId(row.uuid(1)?),
        name: row.string(2)?,
        description: row.opt_text(3)?.map(Into::into),
        version: row.int(4)?,
        created_at: time(row, 5)?,
        updated_at: time(row, 6)?,
    })
}

fn attached_from(row: &Row) -> Result<AttachedProfile, StoreError> {
    Ok(AttachedProfile {
        attachment: Attachment {
            id: AttachmentId(row.uuid(0)?),
            project: ProjectId(row.uuid(1)?),
            application: ApplicationId(row.uuid(2)?),
            profile: ProfileId(row.uuid(3)?),
            enrollment: parse_document(row, 4)?,
            version: row.int(5)?,
            created_at: time(row, 6)?,
            updated_at: time(row, 7)?,
        },
        slug: row.string(8)?,
        description: row.opt_text(9)?.map(Into::into),
    })
}

fn member_from(row: &Row) -> Result<NamedMember, StoreError> {
    Ok(NamedMember {
        member: ApplicationMember {
            id: MembershipId(row.uuid(0)?),
            project: ProjectId(row.uuid(1)?),
            application: ApplicationId(row.uuid(2)?),
            identity: IdentityId(row.uuid(3)?),
            role: word(row, 4, ApplicationRole::parse)?,
            created_at: time(row, 5)?,
            updated_at: time(row, 6)?,
        },
        identity_name: row.string(7)?,
        has_universal_auth: row.opt_blob(8)?.is_some(),
    })
}
