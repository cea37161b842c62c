//! `chancery policy`: what the certificates of a profile may and must say (contract §5.2).

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    files,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
    project,
    vocabulary::{self, KeyAlgorithm, SignatureAlgorithm, Typed},
};

/// Where the policies are, below `/api`.
const PATH: [&str; 3] = ["v1", "cert-manager", "certificate-policies"];
/// The most that the server gives at once (contract §5.2).
const PAGE: &str = "100";

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("LONGEST", "/validity/max"),
    ("KEYS", "/algorithms/keyAlgorithm"),
    ("DESCRIPTION", "/description"),
    ("ID", "/id"),
];

/// Make, list, show, change and delete policies.
#[derive(clap::Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make a policy.
    ///
    /// What no rule speaks of is refused: a policy without SAN rules allows no SAN, one without usage rules no usage.
    /// In patterns * stands for any characters. Rules that these options cannot say come as JSON with --file, in the
    /// API's own form.
    #[command(after_help = "Examples:
  chancery policy create lab-web --allow-subject 'common_name:*.lab.example.com' \\
    --allow-san 'dns:*.lab.example.com' --allow-usage digital_signature --allow-eku server_auth \\
    --key-algorithm EC_prime256v1 --signature-algorithm ECDSA-SHA256 --max-ttl 90d
  chancery policy create lab-copy --file policy.json")]
    Create {
        /// Its name: a-z, 0-9 and -.
        name: String,
        #[command(flatten)]
        rules: Box<RuleArguments>,
    },
    /// List the policies of the project.
    #[command(after_help = "Examples:\n  chancery policy list\n  chancery policy list --search web")]
    List {
        /// Only policies whose name holds this text.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Show a policy and its rules.
    #[command(after_help = "Examples:\n  chancery policy show web-server\n  chancery policy show web-server --json")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Change a policy.
    ///
    /// Each group of rules that is given takes the place of the whole group of before: one --allow-san replaces all SAN
    /// rules. Groups that are not given stay. Certificates that were issued earlier stay as they are.
    #[command(after_help = "Example:\n  chancery policy update lab-web --max-ttl 30d")]
    Update {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// Its new name.
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        rules: Box<RuleArguments>,
    },
    /// Delete a policy that no profile uses.
    #[command(after_help = "Example:\n  chancery policy delete lab-web")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
}

/// The rules of a policy. Each option may be repeated, unless it can hold one value only.
#[derive(clap::Args, Default)]
pub(crate) struct RuleArguments {
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A subject attribute may look like this, as common_name:*.example.com.
    #[arg(long, value_name = "ATTRIBUTE:PATTERN", value_parser = vocabulary::parse_subject_pattern, help_heading = "Rules")]
    allow_subject: Vec<Typed>,
    /// A subject attribute must be there and look like one of these.
    #[arg(long, value_name = "ATTRIBUTE:PATTERN", value_parser = vocabulary::parse_subject_pattern, help_heading = "Rules")]
    require_subject: Vec<Typed>,
    /// A subject attribute must not look like this.
    #[arg(long, value_name = "ATTRIBUTE:PATTERN", value_parser = vocabulary::parse_subject_pattern, help_heading = "Rules")]
    deny_subject: Vec<Typed>,
    /// A subject alternative name may look like this, as dns:*.example.com or ip:10.*.
    #[arg(long, value_name = "KIND:PATTERN", value_parser = vocabulary::parse_alternative_name_pattern, help_heading = "Rules")]
    allow_san: Vec<Typed>,
    /// A subject alternative name like this must be there; all of those that are required.
    #[arg(long, value_name = "KIND:PATTERN", value_parser = vocabulary::parse_alternative_name_pattern, help_heading = "Rules")]
    require_san: Vec<Typed>,
    /// No subject alternative name may look like this.
    #[arg(long, value_name = "KIND:PATTERN", value_parser = vocabulary::parse_alternative_name_pattern, help_heading = "Rules")]
    deny_san: Vec<Typed>,
    /// A key usage that may be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::key_usage(), help_heading = "Rules")]
    allow_usage: Vec<String>,
    /// A key usage that must be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::key_usage(), help_heading = "Rules")]
    require_usage: Vec<String>,
    /// A key usage that must not be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::key_usage(), help_heading = "Rules")]
    deny_usage: Vec<String>,
    /// An extended key usage that may be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::extended_key_usage(), help_heading = "Rules")]
    allow_eku: Vec<String>,
    /// An extended key usage that must be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::extended_key_usage(), help_heading = "Rules")]
    require_eku: Vec<String>,
    /// An extended key usage that must not be asked for.
    #[arg(long, value_name = "USAGE", value_parser = vocabulary::extended_key_usage(), help_heading = "Rules")]
    deny_eku: Vec<String>,
    /// A signature algorithm that certificates may be signed with.
    #[arg(long, value_name = "ALGORITHM", ignore_case = true, help_heading = "Rules")]
    signature_algorithm: Vec<SignatureAlgorithm>,
    /// A kind of key that certificates may be for.
    #[arg(long, value_name = "ALGORITHM", ignore_case = true, help_heading = "Rules")]
    key_algorithm: Vec<KeyAlgorithm>,
    /// The longest lifetime: digits and h, d, m (30 days) or y (365.25 days), as 90d.
    #[arg(long, value_name = "LIFETIME", value_parser = parse_limit, help_heading = "Rules")]
    max_ttl: Option<String>,
    /// Whether certificates may be those of CAs.
    #[arg(long, value_name = "RULE", help_heading = "Rules")]
    ca: Option<CaRule>,
    /// Rules as a JSON object in the API's form, or - for standard input. Options go before what it says.
    #[arg(long, value_name = "FILE|-")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum CaRule {
    Allowed,
    Required,
    Denied,
}

pub(crate) async fn run(client: &Client, command: PolicyCommand) -> Result<Output, Failure> {
    match command {
        PolicyCommand::Create { name, rules } => {
            let mut body = rules.body()?;
            body.insert("name".to_owned(), json!(name));
            let answer = client.post(&PATH, &client.in_project(Value::Object(body)).await?).await?;
            Ok(described("made", answer))
        }
        PolicyCommand::List { search } => {
            let query = [("limit", PAGE), ("search", search.as_deref().unwrap_or_default())];
            let used = if search.is_some() { &query[..] } else { &query[..1] };
            let answer = client.get_in_project(&PATH, used).await?;
            let text = table(COLUMNS, &list_at(&answer, "/certificatePolicies"), "There is no policy.");
            Ok(Output::new(answer, text))
        }
        PolicyCommand::Show { name } => {
            let policy = find(client, &name).await?;
            let text = describe(&policy);
            Ok(Output::new(json!({ "certificatePolicy": policy }), text))
        }
        PolicyCommand::Update { name, rename, rules } => {
            let mut body = rules.body()?;
            if let Some(rename) = rename {
                body.insert("name".to_owned(), json!(rename));
            }
            if body.is_empty() {
                return Err(Failure::usage("nothing was said to change").hint("see: chancery policy update --help"));
            }
            let policy = find(client, &name).await?;
            let answer = client.patch(&with_id(needed(&policy, "/id")?), &Value::Object(body)).await?;
            Ok(described("changed", answer))
        }
        PolicyCommand::Delete { name } => {
            let policy = find(client, &name).await?;
            let answer = client.delete(&with_id(needed(&policy, "/id")?)).await?;
            Ok(Output::new(answer, format!("deleted the policy {}", text_at(&policy, "/name"))))
        }
    }
}

/// A policy by its name or id.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if project::is_id(name) {
        let mut answer = client.get(&with_id(name), &[]).await?;
        return Ok(answer["certificatePolicy"].take());
    }
    let answer = client.get_in_project(&PATH, &[("limit", PAGE), ("search", name)]).await?;
    let fitting = list_at(&answer, "/certificatePolicies");
    fitting.into_iter().find(|policy| string_at(policy, "/name") == Some(name)).ok_or_else(|| {
        Failure::new(format!("there is no policy of the name {name}")).hint("see them all with: chancery policy list")
    })
}

impl RuleArguments {
    /// The body of a request: what the file says, and over it what the options say.
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = match &self.file {
            Some(path) => files::read_object(path)?,
            None => Map::new(),
        };
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        set("description", self.description.as_ref().map(|text| json!(text)));
        set("subject", grouped(&self.allow_subject, &self.require_subject, &self.deny_subject));
        set("sans", grouped(&self.allow_san, &self.require_san, &self.deny_san));
        set("keyUsages", lists(&self.allow_usage, &self.require_usage, &self.deny_usage));
        set("extendedKeyUsages", lists(&self.allow_eku, &self.require_eku, &self.deny_eku));
        set("algorithms", self.algorithms());
        set("validity", self.max_ttl.as_ref().map(|max| json!({ "max": max })));
        set("basicConstraints", self.ca.map(|rule| json!({ "isCA": rule.name() })));
        Ok(body)
    }

    fn algorithms(&self) -> Option<Value> {
        let mut algorithms = Map::new();
        if !self.signature_algorithm.is_empty() {
            let names: Vec<_> = self.signature_algorithm.iter().map(|algorithm| algorithm.name()).collect();
            algorithms.insert("signature".to_owned(), json!(names));
        }
        if !self.key_algorithm.is_empty() {
            let names: Vec<_> = self.key_algorithm.iter().map(|algorithm| algorithm.name()).collect();
            algorithms.insert("keyAlgorithm".to_owned(), json!(names));
        }
        if algorithms.is_empty() { None } else { Some(Value::Object(algorithms)) }
    }
}

impl CaRule {
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Required => "required",
            Self::Denied => "denied",
        }
    }
}

/// Rules of one kind each, in the order in which the kinds first appear.
fn grouped(allowed: &[Typed], required: &[Typed], denied: &[Typed]) -> Option<Value> {
    let lists = [("allowed", allowed), ("required", required), ("denied", denied)];
    let mut kinds: Vec<&str> = Vec::new();
    for typed in lists.iter().flat_map(|(_, list)| *list) {
        if !kinds.contains(&typed.kind) {
            kinds.push(typed.kind);
        }
    }
    let rule = |kind: &&str| {
        let mut rule = json!({ "type": kind });
        for (name, list) in lists {
            let patterns: Vec<&str> =
                list.iter().filter(|typed| typed.kind == *kind).map(|typed| typed.value.as_str()).collect();
            if !patterns.is_empty() {
                rule[name] = json!(patterns);
            }
        }
        rule
    };
    if kinds.is_empty() { None } else { Some(kinds.iter().map(rule).collect()) }
}

fn lists(allowed: &[String], required: &[String], denied: &[String]) -> Option<Value> {
    let lists = [("allowed", allowed), ("required", required), ("denied", denied)];
    let object: Map<String, Value> = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name.to_owned(), json!(list)))
        .collect();
    if object.is_empty() { None } else { Some(Value::Object(object)) }
}

fn parse_limit(text: &str) -> Result<String, String> {
    domain::duration::parse_limit(text).map(|_| text.to_owned()).map_err(|problem| problem.to_string())
}

fn with_id(id: &str) -> [&str; 4] {
    let [version, family, noun] = PATH;
    [version, family, noun, id]
}

fn described(what_happened: &str, answer: Value) -> Output {
    let policy = &answer["certificatePolicy"];
    let text = format!("{what_happened} the policy {}\n{}", text_at(policy, "/name"), describe(policy));
    Output::new(answer, text)
}

fn describe(policy: &Value) -> String {
    let rules = |pointer| list_at(policy, pointer).iter().map(rule_in_words).collect::<Vec<_>>().join("; ");
    let usages = |pointer| policy.pointer(pointer).map(lists_in_words).unwrap_or_default();
    fields([
        ("name", text_at(policy, "/name")),
        ("description", text_at(policy, "/description")),
        ("subject", rules("/subject")),
        ("SANs", rules("/sans")),
        ("key usages", usages("/keyUsages")),
        ("extended", usages("/extendedKeyUsages")),
        ("signatures", text_at(policy, "/algorithms/signature")),
        ("keys", text_at(policy, "/algorithms/keyAlgorithm")),
        ("longest", text_at(policy, "/validity/max")),
        ("CAs", text_at(policy, "/basicConstraints/isCA")),
        ("id", text_at(policy, "/id")),
    ])
}

fn rule_in_words(rule: &Value) -> String {
    format!("{}: {}", text_at(rule, "/type"), lists_in_words(rule))
}

fn lists_in_words(rule: &Value) -> String {
    let parts = ["allowed", "required", "denied"].into_iter().filter_map(|name| {
        let list = rule.get(name)?;
        let words = text_at(list, "");
        if words == "-" { None } else { Some(format!("{name} {words}")) }
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_rules_of_the_api() {
        let dns = |pattern: &str| Typed { kind: "dns_name", value: pattern.to_owned() };
        let ip = |pattern: &str| Typed { kind: "ip_address", value: pattern.to_owned() };
        let rules = RuleArguments {
            allow_san: vec![dns("*.a"), ip("10.*"), dns("*.b")],
            deny_san: vec![dns("x.a")],
            allow_usage: vec!["digital_signature".to_owned()],
            key_algorithm: vec![KeyAlgorithm::EcP256],
            max_ttl: Some("90d".to_owned()),
            ca: Some(CaRule::Denied),
            ..RuleArguments::default()
        };
        let expected = json!({
            "sans": [
                { "type": "dns_name", "allowed": ["*.a", "*.b"], "denied": ["x.a"] },
                { "type": "ip_address", "allowed": ["10.*"] },
            ],
            "keyUsages": { "allowed": ["digital_signature"] },
            "algorithms": { "keyAlgorithm": ["EC_prime256v1"] },
            "validity": { "max": "90d" },
            "basicConstraints": { "isCA": "denied" },
        });
        assert_eq!(Value::Object(rules.body().unwrap()), expected);
        assert!(RuleArguments::default().body().unwrap().is_empty());
    }

    #[test]
    fn options_go_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, r#"{"description": "file", "validity": {"max": "1y"}}"#).unwrap();
        let rules =
            RuleArguments { file: Some(path), description: Some("option".to_owned()), ..RuleArguments::default() };
        let expected = json!({ "description": "option", "validity": { "max": "1y" } });
        assert_eq!(Value::Object(rules.body().unwrap()), expected);
    }

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let rule = json!({ "type": "dns_name", "allowed": ["*.a"], "denied": ["x.a", "y.a"], "required": [] });
        assert_eq!(rule_in_words(&rule), "dns_name: allowed *.a, denied x.a, y.a");
    }
}
