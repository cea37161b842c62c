//! Universal Auth login and the life of an access token (contract §2.2–2.4).

use domain::caller::Caller;
use serde::Deserialize;
use serde_json::json;
use services::login::Login;

use super::LOGIN;
use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, integer, object, one_of, optional, required, text};

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v1/auth/universal-auth/login", LOGIN, "Log in with Universal Auth")
            .body(object([
                required("clientId", text()),
                required("clientSecret", text()),
                optional("subOrganizationName", text().nullable().describe("Accepted and not used")),
            ]))
            .returns(login_schema())
            .public(log_in),
        Endpoint::post("/api/v1/auth/token/renew", LOGIN, "Renew an access token")
            .describe("Gives a new signed form of the token, with a fresh lifetime. Needs no header: the token is in the body.")
            .body(object([required("accessToken", text())]))
            .returns(login_schema())
            .public(renew),
        Endpoint::post("/api/v1/auth/token/revoke", LOGIN, "Revoke an access token")
            .urgent()
            .describe("The token stops working with this answer. Needs no header: the token is in the body.")
            .body(object([required("accessToken", text())]))
            .returns(message_schema())
            .public(revoke),
        Endpoint::post("/api/v1/auth/checkAuth", LOGIN, "Check an access token")
            .returns(message_schema())
            .bearer(check),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    access_token: String,
}

async fn log_in(app: App, mut input: Input) -> Result<Reply> {
    let credentials: Credentials = input.body()?;
    let address = app.address(&input.headers, input.peer);
    let login = app.services.log_in(&credentials.client_id, &credentials.client_secret, address).await?;
    reply(&login)
}

async fn renew(app: App, mut input: Input) -> Result<Reply> {
    let token: Token = input.body()?;
    reply(&app.services.renew_token(&token.access_token).await?)
}

async fn revoke(app: App, mut input: Input) -> Result<Reply> {
    let token: Token = input.body()?;
    app.services.revoke_token(&token.access_token).await?;
    Reply::json(&json!({ "message": "The access token is revoked" }))
}

async fn check(_app: App, _caller: Caller, _input: Input) -> Result<Reply> {
    Reply::json(&json!({ "message": "Authenticated" }))
}

fn reply(login: &Login) -> Result<Reply> {
    let body = json!({
        "accessToken": login.access_token,
        "expiresIn": login.expires_in,
        "accessTokenMaxTTL": login.access_token_ttl_max,
        "tokenType": "Bearer",
    });
    Ok(Reply::json(&body)?.no_store())
}

fn login_schema() -> Schema {
    object([
        required("accessToken", text()),
        required("expiresIn", integer().describe("Seconds until the token ends")),
        required("accessTokenMaxTTL", integer().describe("Seconds from issue until which the token can be renewed")),
        required("tokenType", one_of(&["Bearer"])),
    ])
}

fn message_schema() -> Schema {
    object([required("message", text())])
}
