//! `chancery cert search` and `chancery cert counts`: the inventory, narrowed and in numbers.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{COLUMNS, PAGE, Status};
use crate::cli::{
    ca,
    client::Client,
    failure::Failure,
    output::{Output, fields, list_at, needed, string_at, table, text_at},
    profile, project,
};

/// Search certificates by what is known of them.
///
/// Every condition narrows further. A text is looked for at the beginning of names, and of each label of hosts' names, in
/// upper or lower case. Times are those of RFC 3339, as in 2027-01-31T00:00:00Z.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert search shop.example.com
  chancery cert search --expires-before 2027-01-31T00:00:00Z --sort not-after --oldest
  chancery cert search --ca issuing-ca --key-size 2048 --metadata team=web --limit 500 --json")]
pub(crate) struct SearchArguments {
    /// The beginning of a name, of a label of it, or of the serial number.
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Only those whose common name, or a label of it, begins like this.
    #[arg(long, value_name = "TEXT")]
    common_name: Option<String>,
    /// Only those of this status.
    #[arg(long)]
    status: Option<Status>,
    /// Only those of these profiles, by slug or id.
    #[arg(long, value_name = "SLUG|ID")]
    profile: Vec<String>,
    /// Only those of these certificate authorities, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    ca: Vec<String>,
    /// Only those from profiles of this enrollment: api, est or acme.
    #[arg(long, value_name = "ENROLLMENT")]
    enrollment: Vec<String>,
    /// Only those that were issued here, or elsewhere.
    #[arg(long)]
    source: Option<Source>,
    /// Only keys of this algorithm, such as EC_prime256v1.
    #[arg(long, value_name = "ALGORITHM")]
    key_algorithm: Option<String>,
    /// Only keys of so many bits.
    #[arg(long, value_name = "BITS")]
    key_size: Vec<u32>,
    /// Only signatures of this algorithm, such as ECDSA-SHA256.
    #[arg(long, value_name = "ALGORITHM")]
    signature_algorithm: Option<String>,
    /// Only those with this extended key usage, such as server_auth.
    #[arg(long, value_name = "USAGE")]
    eku: Option<String>,
    /// Only those with this pair of metadata.
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Only those that were issued at this time or later.
    #[arg(long, value_name = "TIME")]
    issued_after: Option<String>,
    /// Only those that were issued at this time or earlier.
    #[arg(long, value_name = "TIME")]
    issued_before: Option<String>,
    /// Only those that begin at this time or later.
    #[arg(long, value_name = "TIME")]
    begins_after: Option<String>,
    /// Only those that begin at this time or earlier.
    #[arg(long, value_name = "TIME")]
    begins_before: Option<String>,
    /// Only those that expire at this time or later.
    #[arg(long, value_name = "TIME")]
    expires_after: Option<String>,
    /// Only those that expire at this time or earlier.
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// What they are sorted by.
    #[arg(long, value_enum, default_value_t = Sort::CreatedAt)]
    sort: Sort,
    /// The oldest, the earliest, or the first of the alphabet first.
    #[arg(long)]
    oldest: bool,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Source {
    Issued,
    Imported,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    CreatedAt,
    NotBefore,
    NotAfter,
    CommonName,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::CreatedAt => "createdAt",
            Self::NotBefore => "notBefore",
            Self::NotAfter => "notAfter",
            Self::CommonName => "commonName",
        }
    }
}

/// Count certificates by status, CA and profile, and by when they expire.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery cert counts
  chancery cert counts --expiring 90
  chancery cert counts --expiring 365 --by-week --ca issuing-ca --json")]
pub(crate) struct CountsArguments {
    /// Count instead how many expire on each of so many days from today on.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3660))]
    expiring: Option<u32>,
    /// By weeks.
    #[arg(long, requires = "expiring")]
    by_week: bool,
    /// Only those of this certificate authority, by name or id.
    #[arg(long, value_name = "NAME|ID", requires = "expiring")]
    ca: Option<String>,
    /// Only those of this profile, by slug or id.
    #[arg(long, value_name = "SLUG|ID", requires = "expiring")]
    profile: Option<String>,
}

pub(super) async fn search(client: &Client, arguments: &SearchArguments) -> Result<Output, Failure> {
    let project = project::meant(client).await?;
    let mut body = conditions(client, arguments).await?;
    let wanted = arguments.limit as usize;
    let mut certificates: Vec<Value> = Vec::new();
    let mut total;
    loop {
        let limit = (wanted - certificates.len()).min(PAGE);
        body.insert("offset".into(), json!(certificates.len()));
        body.insert("limit".into(), json!(limit));
        let sent = Value::Object(body.clone());
        let answer = client.post(&["v1", "projects", &project, "certificates", "search"], &sent).await?;
        let page = list_at(&answer, "/certificates");
        total = answer.get("totalCount").and_then(Value::as_u64).unwrap_or_default();
        let page_length = page.len();
        certificates.extend(page);
        if page_length < limit || certificates.len() >= wanted {
            break;
        }
    }
    let mut text = table(COLUMNS, &certificates, "There is no such certificate.");
    if total > certificates.len() as u64 && !certificates.is_empty() {
        // The server counts to ten thousand, and estimates beyond.
        let about = if total > 10_000 { "about " } else { "" };
        text.push_str(&format!("\n{} of {about}{total}; see more with --limit", certificates.len()));
    }
    Ok(Output::new(json!({ "certificates": certificates, "totalCount": total }), text))
}

/// What is asked for, as the server takes it (contract §6.7).
async fn conditions(client: &Client, arguments: &SearchArguments) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    body.insert("sortBy".into(), json!(arguments.sort.name()));
    body.insert("sortOrder".into(), json!(if arguments.oldest { "asc" } else { "desc" }));
    for (name, value) in [
        ("search", &arguments.text),
        ("commonName", &arguments.common_name),
        ("keyAlgorithm", &arguments.key_algorithm),
        ("signatureAlgorithm", &arguments.signature_algorithm),
        ("extendedKeyUsage", &arguments.eku),
        ("fromDate", &arguments.issued_after),
        ("toDate", &arguments.issued_before),
        ("notBeforeFrom", &arguments.begins_after),
        ("notBeforeTo", &arguments.begins_before),
        ("notAfterFrom", &arguments.expires_after),
        ("notAfterTo", &arguments.expires_before),
    ] {
        if let Some(value) = value {
            body.insert(name.into(), json!(value));
        }
    }
    if let Some(status) = arguments.status {
        body.insert("status".into(), json!(status.name()));
    }
    if let Some(source) = arguments.source {
        let name = match source {
            Source::Issued => "issued",
            Source::Imported => "imported",
        };
        body.insert("source".into(), json!(name));
    }
    if !arguments.enrollment.is_empty() {
        body.insert("enrollmentTypes".into(), json!(arguments.enrollment));
    }
    if !arguments.key_size.is_empty() {
        body.insert("keySizes".into(), json!(arguments.key_size));
    }
    let mut ids = Vec::new();
    for name in &arguments.profile {
        ids.push(needed(&profile::find(client, name).await?, "/id")?.to_owned());
    }
    if !ids.is_empty() {
        body.insert("profileIds".into(), json!(ids));
    }
    let mut ids = Vec::new();
    for name in &arguments.ca {
        ids.push(needed(&ca::find(client, name).await?, "/id")?.to_owned());
    }
    if !ids.is_empty() {
        body.insert("caIds".into(), json!(ids));
    }
    let mut pairs = Vec::new();
    for pair in &arguments.metadata {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{pair} is not a pair")).hint("write it as KEY=VALUE, such as team=web")
        })?;
        pairs.push(json!({ "key": key, "value": value }));
    }
    if !pairs.is_empty() {
        body.insert("metadata".into(), json!(pairs));
    }
    Ok(body)
}

pub(super) async fn counts(client: &Client, arguments: &CountsArguments) -> Result<Output, Failure> {
    let project = project::meant(client).await?;
    let Some(days) = arguments.expiring else {
        let answer = client.get(&["v1", "projects", &project, "certificates", "counts"], &[]).await?;
        let text = describe(&answer);
        return Ok(Output::new(answer, text));
    };
    let mut filters = vec![("days", days.to_string())];
    if arguments.by_week {
        filters.push(("step", "week".to_owned()));
    }
    if let Some(name) = &arguments.ca {
        filters.push(("caId", needed(&ca::find(client, name).await?, "/id")?.to_owned()));
    }
    if let Some(name) = &arguments.profile {
        filters.push(("profileId", needed(&profile::find(client, name).await?, "/id")?.to_owned()));
    }
    let query: Vec<(&str, &str)> = filters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.get(&["v1", "projects", &project, "certificates", "expiry-histogram"], &query).await?;
    let some = |bucket: &Value| bucket.get("certificates").and_then(Value::as_u64) != Some(0);
    let buckets: Vec<Value> = list_at(&answer, "/buckets").into_iter().filter(some).collect();
    let none = format!("No certificate expires within {days} days.");
    let columns = [("FROM", "/from"), ("TO", "/to"), ("CERTIFICATES", "/certificates")];
    let text = table(&columns, &buckets, &none);
    Ok(Output::new(answer, text))
}

fn describe(counts: &Value) -> String {
    let numbers = |first: &'static str, at: &'static str| {
        [(first, at), ("ACTIVE", "/active"), ("EXPIRED", "/expired"), ("REVOKED", "/revoked"), ("TOTAL", "/total")]
    };
    let named = |list: &str, name: &str, id: &str, none: &str| -> Vec<Value> {
        let mut rows = list_at(counts, list);
        for row in &mut rows {
            let shown = string_at(row, name).or(string_at(row, id)).unwrap_or(none).to_owned();
            row["shown"] = json!(shown);
        }
        rows
    };
    let all = fields([
        ("active", text_at(counts, "/active")),
        ("expired", text_at(counts, "/expired")),
        ("revoked", text_at(counts, "/revoked")),
        ("total", text_at(counts, "/total")),
    ]);
    let by_ca = named("/byCa", "/caName", "/caId", "(none)");
    let by_profile = named("/byProfile", "/profileName", "/profileId", "(none)");
    if by_ca.is_empty() {
        return all;
    }
    format!(
        "{all}\n\n{}\n\n{}",
        table(&numbers("CA", "/shown"), &by_ca, ""),
        table(&numbers("PROFILE", "/shown"), &by_profile, "")
    )
}
