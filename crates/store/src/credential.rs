//! Universal Auth: its configuration, client secrets and access tokens.

use crate::changes::Statement;
use crate::columns::{document, number, octets, parse_document, time};
use crate::db::Db;
use crate::error::StoreError;
use crate::params;
use crate::value::Row;
use domain::identity::{AccessToken, ClientSecret, UniversalAuth};
use domain::{AccessTokenId, ClientSecretId, IdentityId, Time, UniversalAuthId};

/// The configuration that a client id belongs to.
pub async fn by_client_id(db: &Db, client_id: &str) -> Result<Option<UniversalAuth>, StoreError> {
    let row = db
        .row(
            "SELECT id, identity_id, client_id, settings, failures, failures_until, locked_until, created_at, updated_at
             FROM universal_auths WHERE client_id = $1",
            params![client_id],
        )
        .await?;
    row.as_ref().map(universal_auth_from).transpose()
}

/// The configuration of an identity.
pub async fn by_identity(db: &Db, identity: IdentityId) -> Result<Option<UniversalAuth>, StoreError> {
    let row = db
        .row(
            "SELECT id, identity_id, client_id, settings, failures, failures_until, locked_until, created_at, updated_at
             FROM universal_auths WHERE identity_id = $1",
            params![identity],
        )
        .await?;
    row.as_ref().map(universal_auth_from).transpose()
}

/// Adds a configuration.
pub fn insert(auth: &UniversalAuth) -> Statement {
    Statement::new(
        "INSERT INTO universal_auths (id, identity_id, client_id, settings, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            auth.id,
            auth.identity,
            auth.client_id.as_str(),
            document(&auth.settings),
            auth.created_at,
            auth.updated_at,
        ],
    )
}

/// Writes the settings.
pub fn update(auth: &UniversalAuth) -> Statement {
    Statement::new(
        "UPDATE universal_auths SET settings = $2, updated_at = $3 WHERE id = $1",
        params![auth.id, document(&auth.settings), auth.updated_at],
    )
    .expect_one("the configuration is there")
}

/// Removes the configuration with its secrets.
pub fn delete(id: UniversalAuthId) -> Statement {
    Statement::new("DELETE FROM universal_auths WHERE id = $1", params![id]).expect_one("the configuration is there")
}

/// Withdraws every token of an identity.
pub fn revoke_tokens_of(identity: IdentityId) -> Statement {
    Statement::new("UPDATE access_tokens SET is_revoked = 1 WHERE identity_id = $1", params![identity])
}

/// Counts one failed login in the database itself, so that failures at the same moment all count: a window that has
/// ended starts anew, and the threshold locks.
pub fn count_failure(auth: &UniversalAuth, now: Time) -> Statement {
    let settings = &auth.settings;
    Statement::new(
        "UPDATE universal_auths SET
         failures = CASE WHEN failures_until > $2 THEN failures + 1 ELSE 1 END,
         failures_until = $3,
         locked_until = CASE WHEN (CASE WHEN failures_until > $2 THEN failures + 1 ELSE 1 END) >= $4
                        THEN $5 ELSE locked_until END
         WHERE id = $1",
        params![
            auth.id,
            now,
            now.plus_seconds(settings.lockout_counter_reset_seconds),
            settings.lockout_threshold,
            now.plus_seconds(settings.lockout_duration_seconds),
        ],
    )
}

/// Forgets failures and lifts a lock.
pub fn clear_lockout(id: UniversalAuthId) -> Statement {
    Statement::new(
        "UPDATE universal_auths SET failures = 0, failures_until = 0, locked_until = 0 WHERE id = $1",
        params![id],
    )
}

/// The secrets of a configuration, oldest first.
pub async fn secrets(db: &Db, auth: UniversalAuthId) -> Result<Vec<ClientSecret>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, universal_auth_id, description, prefix, hash, uses, uses_limit, ttl_seconds, is_revoked,
             created_at, updated_at FROM client_secrets WHERE universal_auth_id = $1 ORDER BY created_at, id",
            params![auth],
        )
        .await?;
    rows.iter().map(secret_from).collect()
}

/// Adds a secret.
pub fn insert_secret(secret: &ClientSecret) -> Statement {
    Statement::new(
        "INSERT INTO client_secrets (id, universal_auth_id, description, prefix, hash, uses, uses_limit, ttl_seconds,
         is_revoked, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, 0, $8, $8)",
        params![
            secret.id,
            secret.universal_auth,
            secret.description.as_str(),
            secret.prefix.as_str(),
            secret.hash,
            secret.uses_limit,
            secret.ttl_seconds,
            secret.created_at,
        ],
    )
}

/// Withdraws a secret.
pub fn revoke_secret(id: ClientSecretId, now: Time) -> Statement {
    Statement::new("UPDATE client_secrets SET is_revoked = 1, updated_at = $2 WHERE id = $1", params![id, now])
        .expect_one("the secret is there")
}

/// Counts a login, unless the secret was withdrawn or used up in the meantime.
pub fn use_secret(id: ClientSecretId) -> Statement {
    Statement::new(
        "UPDATE client_secrets SET uses = uses + 1
         WHERE id = $1 AND is_revoked = 0 AND (uses_limit = 0 OR uses < uses_limit)",
        params![id],
    )
    .expect_one("the client secret is usable")
}

/// A token's record.
pub async fn token(db: &Db, id: AccessTokenId) -> Result<Option<AccessToken>, StoreError> {
    let row = db
        .row(
            "SELECT id, identity_id, client_secret_id, ttl_seconds, ttl_seconds_max, period_seconds, uses, uses_limit,
             is_revoked, created_at, renewed_at FROM access_tokens WHERE id = $1",
            params![id],
        )
        .await?;
    row.as_ref().map(token_from).transpose()
}

/// Adds a token's record.
pub fn insert_token(token: &AccessToken) -> Statement {
    Statement::new(
        "INSERT INTO access_tokens (id, identity_id, client_secret_id, ttl_seconds, ttl_seconds_max, period_seconds,
         uses, uses_limit, is_revoked, created_at, renewed_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, 0, $8, $8)",
        params![
            token.id,
            token.identity,
            token.client_secret,
            token.ttl_seconds,
            token.ttl_seconds_max,
            token.period_seconds,
            token.uses_limit,
            token.created_at,
        ],
    )
}

/// Counts a use of a token that has a limit.
pub fn use_token(id: AccessTokenId) -> Statement {
    Statement::new(
        "UPDATE access_tokens SET uses = uses + 1 WHERE id = $1 AND is_revoked = 0 AND uses < uses_limit",
        params![id],
    )
    .expect_one("the access token is usable")
}

/// Marks a token as renewed.
pub fn renew_token(id: AccessTokenId, now: Time) -> Statement {
    Statement::new("UPDATE access_tokens SET renewed_at = $2 WHERE id = $1 AND is_revoked = 0", params![id, now])
        .expect_one("the access token is usable")
}

/// Withdraws a token.
pub fn revoke_token(id: AccessTokenId) -> Statement {
    Statement::new("UPDATE access_tokens SET is_revoked = 1 WHERE id = $1 AND is_revoked = 0", params![id])
        .expect_one("the access token is usable")
}

/// Removes tokens of an identity that can no longer be used, so that the table does not grow with every login.
pub fn prune_tokens(identity: IdentityId, now: Time) -> Statement {
    Statement::new(
        "DELETE FROM access_tokens WHERE identity_id = $1
         AND (is_revoked = 1 OR (ttl_seconds > 0 AND period_seconds = 0 AND renewed_at + ttl_seconds * 1000 < $2)
              OR (period_seconds > 0 AND renewed_at + period_seconds * 1000 < $2))",
        params![identity, now],
    )
}

fn universal_auth_from(row: &Row) -> Result<UniversalAuth, StoreError> {
    Ok(UniversalAuth {
        id: UniversalAuthId(row.uuid(0)?),
        identity: IdentityId(row.uuid(1)?),
        client_id: row.text(2)?.into(),
        settings: parse_document(row, 3)?,
        failures: number(row, 4)?,
        failures_until: time(row, 5)?,
        locked_until: time(row, 6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
    })
}

fn secret_from(row: &Row) -> Result<ClientSecret, StoreError> {
    Ok(ClientSecret {
        id: ClientSecretId(row.uuid(0)?),
        universal_auth: UniversalAuthId(row.uuid(1)?),
        description: row.text(2)?.into(),
        prefix: row.text(3)?.into(),
        hash: octets(row, 4)?,
        uses: row.int(5)?,
        uses_limit: row.int(6)?,
        ttl_seconds: row.int(7)?,
        is_revoked: row.bool(8)?,
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
    })
}

fn token_from(row: &Row) -> Result<AccessToken, StoreError> {
    Ok(AccessToken {
        id: AccessTokenId(row.uuid(0)?),
        identity: IdentityId(row.uuid(1)?),
        client_secret: ClientSecretId(row.uuid(2)?),
        ttl_seconds: row.int(3)?,
        ttl_seconds_max: row.int(4)?,
        period_seconds: row.int(5)?,
        uses: row.int(6)?,
        uses_limit: row.int(7)?,
        is_revoked: row.bool(8)?,
        created_at: time(row, 9)?,
        renewed_at: time(row, 10)?,
    })
}
