//! How machine identities log in: the Universal Auth configuration and client secrets (contract §2.5).

use std::net::IpAddr;

use domain::caller::Caller;
use domain::identity::{ClientSecret, TrustedNetwork, UniversalAuth, UniversalAuthSettings};
use domain::{ClientSecretId, IdentityId, Reason, Refusal, Violation};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use services::identities::NewClientSecret;

use super::LOGIN;
use crate::app::App;
use crate::error::Result;
use crate::render::{timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, boolean, date, integer, list, object, one_of, optional, required, text, uuid};

/// The longest lifetime of a token or a secret: ten years, in seconds.
const TTL_SECONDS_MAX: i64 = 315_360_000;
const TTL_RULE: &str = "accessTokenTTL must not be greater than accessTokenMaxTTL";

/// The routes of this file.
pub fn routes() -> Vec<Route<App>> {
    const AUTH: &str = "/api/v1/auth/universal-auth/identities/{identityId}";
    const SECRETS: &str = "/api/v1/auth/universal-auth/identities/{identityId}/client-secrets";
    const SECRET: &str = "/api/v1/auth/universal-auth/identities/{identityId}/client-secrets/{clientSecretId}";
    const REVOKE: &str = "/api/v1/auth/universal-auth/identities/{identityId}/client-secrets/{clientSecretId}/revoke";
    const LOCKOUTS: &str = "/api/v1/auth/universal-auth/identities/{identityId}/clear-lockouts";
    let auth = |endpoint: Endpoint| {
        endpoint.path([required("identityId", uuid())]).returns(wrapper("identityUniversalAuth", auth_schema()))
    };
    let secret = |endpoint: Endpoint| {
        endpoint
            .path([required("identityId", uuid()), required("clientSecretId", uuid())])
            .returns(wrapper("clientSecretData", secret_schema()))
    };
    vec![
        auth(Endpoint::post(AUTH, LOGIN, "Let an identity log in with Universal Auth"))
            .body(settings_schema().rule(&["accessTokenTTL"], TTL_RULE, ttl_fits))
            .bearer(attach),
        auth(Endpoint::get(AUTH, LOGIN, "Show the Universal Auth configuration of an identity")).bearer(show),
        auth(Endpoint::patch(AUTH, LOGIN, "Change the Universal Auth configuration of an identity"))
            .body(settings_schema().partial())
            .bearer(change),
        auth(Endpoint::delete(AUTH, LOGIN, "Take Universal Auth away from an identity"))
            .describe("Its client secrets and access tokens stop working with this answer.")
            .bearer(detach),
        Endpoint::post(SECRETS, LOGIN, "Make a client secret")
            .describe("The secret is shown here and never again.")
            .path([required("identityId", uuid())])
            .body(object([
                optional("description", text().at_most(1000).default(json!(""))),
                optional("numUsesLimit", integer().at_least(0).default(json!(0)).describe("0 is without limit")),
                optional("ttl", seconds(0, TTL_SECONDS_MAX).default(json!(0)).describe("Seconds; 0 is never")),
            ]))
            .returns(object([required("clientSecret", text()), required("clientSecretData", secret_schema())]))
            .bearer(create_secret),
        Endpoint::get(SECRETS, LOGIN, "List the client secrets of an identity")
            .path([required("identityId", uuid())])
            .returns(wrapper("clientSecretData", list(secret_schema())))
            .bearer(list_secrets),
        secret(Endpoint::get(SECRET, LOGIN, "Show a client secret's record")).bearer(show_secret),
        secret(Endpoint::post(REVOKE, LOGIN, "Revoke a client secret")).bearer(revoke_secret),
        Endpoint::post(LOCKOUTS, LOGIN, "Lift the lock that wrong secrets brought about")
            .path([required("identityId", uuid())])
            .returns(object([required("deleted", integer())]))
            .bearer(clear_lockouts),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfIdentity {
    identity_id: IdentityId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSecret {
    identity_id: IdentityId,
    client_secret_id: ClientSecretId,
}

/// What was sent of the settings.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentSettings {
    #[serde(rename = "accessTokenTTL")]
    access_token_ttl: Option<i64>,
    #[serde(rename = "accessTokenMaxTTL")]
    access_token_ttl_max: Option<i64>,
    access_token_num_uses_limit: Option<i64>,
    access_token_period: Option<i64>,
    client_secret_trusted_ips: Option<Vec<SentNetwork>>,
    access_token_trusted_ips: Option<Vec<SentNetwork>>,
    lockout_enabled: Option<bool>,
    lockout_threshold: Option<u32>,
    lockout_duration_seconds: Option<i64>,
    lockout_counter_reset_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentNetwork {
    ip_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewSecret {
    description: String,
    num_uses_limit: i64,
    ttl: i64,
}

async fn attach(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let settings = input.body::<SentSettings>()?.over(UniversalAuthSettings::default())?;
    reply(&app.services.attach_universal_auth(&caller, identity_id, settings).await?)
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    reply(&app.services.universal_auth(&caller, identity_id).await?)
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let sent: SentSettings = input.body()?;
    let merge = |settings| {
        let settings = sent.over(settings)?;
        if settings.access_token_ttl_max > 0 && settings.access_token_ttl > settings.access_token_ttl_max {
            let violation = Violation::new("accessTokenTTL", "ttl", TTL_RULE);
            return Err(Refusal::violations(Reason::Malformed, vec![violation]).into());
        }
        Ok(settings)
    };
    reply(&app.services.change_universal_auth(&caller, identity_id, merge).await?)
}

async fn detach(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    reply(&app.services.detach_universal_auth(&caller, identity_id).await?)
}

async fn create_secret(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let NewSecret { description, num_uses_limit, ttl } = input.body()?;
    let new = NewClientSecret { description, uses_limit: num_uses_limit, ttl_seconds: ttl };
    let shown = app.services.create_client_secret(&caller, identity_id, new).await?;
    let body = json!({ "clientSecret": shown.secret, "clientSecretData": render_secret(&shown.record) });
    Ok(Reply::json(&body)?.no_store())
}

async fn list_secrets(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let secrets = app.services.client_secrets(&caller, identity_id).await?;
    Reply::json(&wrapped("clientSecretData", secrets.iter().map(render_secret).collect::<Vec<_>>()))
}

async fn show_secret(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfSecret { identity_id, client_secret_id } = input.path()?;
    let secret = app.services.client_secret(&caller, identity_id, client_secret_id).await?;
    Reply::json(&wrapped("clientSecretData", render_secret(&secret)))
}

async fn revoke_secret(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfSecret { identity_id, client_secret_id } = input.path()?;
    let secret = app.services.revoke_client_secret(&caller, identity_id, client_secret_id).await?;
    Reply::json(&wrapped("clientSecretData", render_secret(&secret)))
}

async fn clear_lockouts(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfIdentity { identity_id } = input.path()?;
    let deleted = app.services.clear_lockouts(&caller, identity_id).await?;
    Reply::json(&json!({ "deleted": deleted }))
}

impl SentSettings {
    /// These settings where they were sent, the others where not.
    fn over(self, base: UniversalAuthSettings) -> domain::Result<UniversalAuthSettings> {
        Ok(UniversalAuthSettings {
            access_token_ttl: self.access_token_ttl.unwrap_or(base.access_token_ttl),
            access_token_ttl_max: self.access_token_ttl_max.unwrap_or(base.access_token_ttl_max),
            access_token_num_uses_limit: self.access_token_num_uses_limit.unwrap_or(base.access_token_num_uses_limit),
            access_token_period: self.access_token_period.unwrap_or(base.access_token_period),
            client_secret_trusted_ips: networks(self.client_secret_trusted_ips, base.client_secret_trusted_ips)?,
            access_token_trusted_ips: networks(self.access_token_trusted_ips, base.access_token_trusted_ips)?,
            lockout_enabled: self.lockout_enabled.unwrap_or(base.lockout_enabled),
            lockout_threshold: self.lockout_threshold.unwrap_or(base.lockout_threshold),
            lockout_duration_seconds: self.lockout_duration_seconds.unwrap_or(base.lockout_duration_seconds),
            lockout_counter_reset_seconds: self
                .lockout_counter_reset_seconds
                .unwrap_or(base.lockout_counter_reset_seconds),
        })
    }
}

fn networks(sent: Option<Vec<SentNetwork>>, base: Vec<TrustedNetwork>) -> domain::Result<Vec<TrustedNetwork>> {
    match sent {
        None => Ok(base),
        Some(sent) => sent.iter().map(|network| TrustedNetwork::parse(&network.ip_address)).collect(),
    }
}

/// Asked of a clean body: the lifetimes are there by their defaults. A greatest lifetime of 0 is without end.
fn ttl_fits(body: &Value) -> bool {
    let seconds = |name: &str| body[name].as_i64().unwrap_or_default();
    seconds("accessTokenMaxTTL") == 0 || seconds("accessTokenTTL") <= seconds("accessTokenMaxTTL")
}

fn settings_schema() -> Schema {
    let anywhere = || json!([{ "ipAddress": "0.0.0.0/0" }, { "ipAddress": "::/0" }]);
    object([
        optional("clientSecretTrustedIps", networks_schema().default(anywhere())),
        optional("accessTokenTrustedIps", networks_schema().default(anywhere())),
        optional("accessTokenTTL", seconds(0, TTL_SECONDS_MAX).default(json!(2_592_000))),
        optional("accessTokenMaxTTL", seconds(0, TTL_SECONDS_MAX).default(json!(2_592_000))),
        optional("accessTokenNumUsesLimit", integer().at_least(0).default(json!(0))),
        optional("accessTokenPeriod", seconds(0, TTL_SECONDS_MAX).default(json!(0))),
        optional("lockoutEnabled", boolean().default(json!(true))),
        optional("lockoutThreshold", integer().at_least(1).at_most(30).default(json!(3))),
        optional("lockoutDurationSeconds", seconds(30, 86_400).default(json!(300))),
        optional("lockoutCounterResetSeconds", seconds(5, 3600).default(json!(30))),
    ])
}

fn seconds(min: i64, max: i64) -> Schema {
    integer().at_least(min).at_most(max)
}

fn networks_schema() -> Schema {
    let network = text().must("Must be an IP address or a network such as 10.0.0.0/8", |network| {
        TrustedNetwork::parse(network).is_ok()
    });
    list(object([required("ipAddress", network)])).at_least(1)
}

fn auth_schema() -> Schema {
    let networks = list(object([
        required("ipAddress", text()),
        optional("prefix", integer()),
        required("type", one_of(&["ipv4", "ipv6"])),
    ]));
    settings_schema().partial().with([
        required("id", uuid()),
        required("clientId", text()),
        required("identityId", uuid()),
        required("clientSecretTrustedIps", networks.clone()),
        required("accessTokenTrustedIps", networks),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

fn secret_schema() -> Schema {
    object([
        required("id", uuid()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("description", text()),
        required("clientSecretPrefix", text()),
        required("clientSecretNumUses", integer()),
        required("clientSecretNumUsesLimit", integer()),
        required("clientSecretTTL", integer()),
        required("identityUAId", uuid()),
        required("isClientSecretRevoked", boolean()),
    ])
}

fn reply(auth: &UniversalAuth) -> Result<Reply> {
    let settings = &auth.settings;
    let body = json!({
        "id": auth.id,
        "clientId": auth.client_id,
        "accessTokenTTL": settings.access_token_ttl,
        "accessTokenMaxTTL": settings.access_token_ttl_max,
        "accessTokenNumUsesLimit": settings.access_token_num_uses_limit,
        "accessTokenPeriod": settings.access_token_period,
        "clientSecretTrustedIps": render_networks(&settings.client_secret_trusted_ips),
        "accessTokenTrustedIps": render_networks(&settings.access_token_trusted_ips),
        "lockoutEnabled": settings.lockout_enabled,
        "lockoutThreshold": settings.lockout_threshold,
        "lockoutDurationSeconds": settings.lockout_duration_seconds,
        "lockoutCounterResetSeconds": settings.lockout_counter_reset_seconds,
        "createdAt": timestamp(auth.created_at),
        "updatedAt": timestamp(auth.updated_at),
        "identityId": auth.identity,
    });
    Reply::json(&wrapped("identityUniversalAuth", body))
}

fn render_networks(networks: &[TrustedNetwork]) -> Vec<Value> {
    let render = |network: &TrustedNetwork| {
        let mut shown = Map::new();
        shown.insert("ipAddress".into(), network.address().to_string().into());
        if let Some(prefix) = network.prefix() {
            shown.insert("prefix".into(), prefix.into());
        }
        let kind = match network.address() {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        shown.insert("type".into(), kind.into());
        Value::Object(shown)
    };
    networks.iter().map(render).collect()
}

fn render_secret(secret: &ClientSecret) -> Value {
    json!({
        "id": secret.id,
        "createdAt": timestamp(secret.created_at),
        "updatedAt": timestamp(secret.updated_at),
        "description": secret.description,
        "clientSecretPrefix": secret.prefix,
        "clientSecretNumUses": secret.uses,
        "clientSecretNumUsesLimit": secret.uses_limit,
        "clientSecretTTL": secret.ttl_seconds,
        "identityUAId": secret.universal_auth,
        "isClientSecretRevoked": secret.is_revoked,
    })
}
