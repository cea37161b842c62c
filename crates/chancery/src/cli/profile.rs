//! `chancery profile`: what is asked for when a certificate is asked for; each ties a CA to a policy (contract §5.3).

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::{
    ca,
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
    policy, project,
};

/// Where the profiles are, below `/api`.
const PATH: [&str; 3] = ["v1", "cert-manager", "certificate-profiles"];
/// The most that the server gives at once (contract §5.3).
const PAGE: &str = "100";

const COLUMNS: &[Column] = &[
    ("SLUG", "/slug"),
    ("ENROLLMENT", "/enrollmentType"),
    ("ISSUER", "/issuerType"),
    ("CA", "/certificateAuthority/name"),
    ("DESCRIPTION", "/description"),
    ("ID", "/id"),
];

/// Make, list, show, change and delete profiles.
#[derive(clap::Args)]
pub(crate) struct ProfileArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: ProfileCommand,
}

#[derive(Subcommand)]
pub(crate) enum ProfileCommand {
    Create(CreateArguments),
    /// List the profiles of the project.
    #[command(after_help = "Examples:\n  chancery profile list\n  chancery profile list --search web")]
    List {
        /// Only profiles whose slug holds this text.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Show a profile.
    #[command(after_help = "Example:\n  chancery profile show web-server")]
    Show {
        /// Its slug or id.
        #[arg(value_name = "SLUG|ID")]
        name: String,
    },
    Update(UpdateArguments),
    /// Delete a profile. Its certificates stay.
    #[command(after_help = "Example:\n  chancery profile delete lab-web")]
    Delete {
        /// Its slug or id.
        #[arg(value_name = "SLUG|ID")]
        name: String,
    },
}

/// Make a profile.
///
/// Certificates are asked for by their profile; it names the CA that signs and the policy that they are held against.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery profile create lab-web --ca issuing-ca --policy web-server --description 'Web in the lab'
  chancery profile create lab-self --issuer self-signed --policy web-server")]
pub(crate) struct CreateArguments {
    /// Its short name: a-z, 0-9 and -.
    slug: String,
    /// The CA that signs, by name or id.
    #[arg(long, value_name = "NAME|ID", required_if_eq("issuer", "ca"), required_unless_present = "issuer")]
    ca: Option<String>,
    /// The policy that its certificates are held against, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    policy: String,
    /// Who signs.
    #[arg(long, value_enum, default_value_t = Issuer::Ca)]
    issuer: Issuer,
    /// How certificates are asked for; est and acme take their settings from --file.
    #[arg(long, value_enum, default_value_t = Enrollment::Api)]
    enrollment: Enrollment,
    #[command(flatten)]
    settings: SettingArguments,
}

/// Change a profile.
///
/// What is not given stays. The CA and the policy of a profile stay for its lifetime.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  chancery profile update web-server --description 'Every web server'")]
pub(crate) struct UpdateArguments {
    /// Its slug or id.
    #[arg(value_name = "SLUG|ID")]
    name: String,
    /// Its new slug.
    #[arg(long, value_name = "SLUG")]
    rename: Option<String>,
    #[command(flatten)]
    settings: SettingArguments,
}

#[derive(clap::Args, Default)]
struct SettingArguments {
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The lifetime of certificates that are asked for without one, in days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    default_ttl_days: Option<u32>,
    /// Renew its certificates by themselves, this many days before they end.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=30))]
    renew_before_days: Option<u32>,
    /// Further settings as a JSON object in the API's form, or - for standard input. Options go before what it says.
    #[arg(long, value_name = "FILE|-")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Issuer {
    Ca,
    SelfSigned,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Enrollment {
    Api,
    Est,
    Acme,
}

pub(crate) async fn run(client: &Client, command: ProfileCommand) -> Result<Output, Failure> {
    match command {
        ProfileCommand::Create(arguments) => create(client, &arguments).await,
        ProfileCommand::List { search } => {
            let query = [("limit", PAGE), ("search", search.as_deref().unwrap_or_default())];
            let used = if search.is_some() { &query[..] } else { &query[..1] };
            let answer = client.get_in_project(&PATH, used).await?;
            let text = table(COLUMNS, &list_at(&answer, "/certificateProfiles"), "There is no profile.");
            Ok(Output::new(answer, text))
        }
        ProfileCommand::Show { name } => {
            let found = find(client, &name).await?;
            let (answer, described) = whole(client, &found).await?;
            Ok(Output::new(answer, described))
        }
        ProfileCommand::Update(arguments) => {
            let mut body = arguments.settings.body()?;
            if let Some(rename) = arguments.rename {
                body.insert("slug".to_owned(), json!(rename));
            }
            if body.is_empty() {
                return Err(Failure::usage("nothing was said to change").hint("see: chancery profile update --help"));
            }
            let profile = find(client, &arguments.name).await?;
            let changed = client.patch(&with_id(needed(&profile, "/id")?), &Value::Object(body)).await?;
            told(client, "changed", &changed).await
        }
        ProfileCommand::Delete { name } => {
            let profile = find(client, &name).await?;
            let answer = client.delete(&with_id(needed(&profile, "/id")?)).await?;
            Ok(Output::new(answer, format!("deleted the profile {}", text_at(&profile, "/slug"))))
        }
    }
}

/// A profile by its slug or id.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if project::is_id(name) {
        let mut answer = client.get(&with_id(name), &[]).await?;
        return Ok(answer["certificateProfile"].take());
    }
    let [version, family, noun] = PATH;
    let mut answer = client.get_in_project(&[version, family, noun, "slug", name], &[]).await.map_err(|failure| {
        match failure.status {
            Some(404) => failure.hint("see them all with: chancery profile list"),
            _ => failure,
        }
    })?;
    Ok(answer["certificateProfile"].take())
}

async fn create(client: &Client, arguments: &CreateArguments) -> Result<Output, Failure> {
    let mut body = arguments.settings.body()?;
    let policy = policy::find(client, &arguments.policy).await?;
    body.insert("certificatePolicyId".to_owned(), json!(needed(&policy, "/id")?));
    body.insert("slug".to_owned(), json!(arguments.slug));
    body.insert("issuerType".to_owned(), json!(arguments.issuer.name()));
    body.insert("enrollmentType".to_owned(), json!(arguments.enrollment.name()));
    if let Some(name) = &arguments.ca {
        let authority = ca::find(client, name).await?;
        body.insert("caId".to_owned(), json!(needed(&authority, "/id")?));
    }
    if arguments.enrollment == Enrollment::Api && !body.contains_key("apiConfig") {
        body.insert("apiConfig".to_owned(), json!({ "autoRenew": false }));
    }
    let made = client.post(&PATH, &client.in_project(Value::Object(body)).await?).await?;
    told(client, "made", &made).await
}

async fn told(client: &Client, what_happened: &str, answer: &Value) -> Result<Output, Failure> {
    let (answer, described) = whole(client, &answer["certificateProfile"]).await?;
    let slug = text_at(&answer, "/certificateProfile/slug");
    Ok(Output::new(answer, format!("{what_happened} the profile {slug}\n{described}")))
}

/// A profile with the names of its CA and policy and with its settings: so it comes only by its id.
async fn whole(client: &Client, profile: &Value) -> Result<(Value, String), Failure> {
    let answer = client.get(&with_id(needed(profile, "/id")?), &[]).await?;
    let described = describe(&answer["certificateProfile"], &answer);
    Ok((answer, described))
}

impl SettingArguments {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = match &self.file {
            Some(path) => files::read_object(path)?,
            None => Map::new(),
        };
        if let Some(description) = &self.description {
            body.insert("description".to_owned(), json!(description));
        }
        if let Some(days) = self.renew_before_days {
            body.insert("apiConfig".to_owned(), json!({ "autoRenew": true, "renewBeforeDays": days }));
        }
        if let Some(days) = self.default_ttl_days {
            let defaults = body.entry("defaults").or_insert_with(|| json!({}));
            match defaults.as_object_mut() {
                Some(defaults) => {
                    defaults.insert("ttlDays".to_owned(), json!(days));
                }
                None => *defaults = json!({ "ttlDays": days }),
            }
        }
        Ok(body)
    }
}

impl Issuer {
    fn name(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::SelfSigned => "self-signed",
        }
    }
}

impl Enrollment {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Est => "est",
            Self::Acme => "acme",
        }
    }
}

fn with_id(id: &str) -> [&str; 4] {
    let [version, family, noun] = PATH;
    [version, family, noun, id]
}

/// The parts of a profile stand in it, or beside it in the answer.
fn describe(profile: &Value, answer: &Value) -> String {
    let part = |pointer: &str| {
        let found = string_at(profile, pointer).or_else(|| string_at(answer, pointer));
        found.unwrap_or_default().to_owned()
    };
    let named = |name: String, id: &str| if name.is_empty() { text_at(profile, id) } else { name };
    let renewal = profile.pointer("/apiConfig/renewBeforeDays").and_then(Value::as_u64);
    fields([
        ("slug", text_at(profile, "/slug")),
        ("description", text_at(profile, "/description")),
        ("enrollment", text_at(profile, "/enrollmentType")),
        ("issuer", text_at(profile, "/issuerType")),
        ("CA", named(part("/certificateAuthority/name"), "/caId")),
        ("policy", named(part("/certificatePolicy/name"), "/certificatePolicyId")),
        ("lifetime", profile.pointer("/defaults/ttlDays").map(|days| format!("{days} days")).unwrap_or_default()),
        ("renewal", renewal.map(|days| format!("{days} days before the end")).unwrap_or_default()),
        ("ACME", part("/acmeConfig/directoryUrl")),
        ("id", text_at(profile, "/id")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_the_fields_of_the_api() {
        let settings = SettingArguments {
            description: Some("web".to_owned()),
            default_ttl_days: Some(30),
            renew_before_days: Some(7),
            file: None,
        };
        let expected = json!({
            "description": "web",
            "defaults": { "ttlDays": 30 },
            "apiConfig": { "autoRenew": true, "renewBeforeDays": 7 },
        });
        assert_eq!(Value::Object(settings.body().unwrap()), expected);
    }
}
