//! Certificate policies (contract §5.2). The older families call the same object a template: three paths, two names.
//!
//! The shape is checked here; which rules can stand together is `domain::policy`'s to say.

use domain::caller::Caller;
use domain::policy::{EXTENDED_KEY_USAGES, KEY_USAGES, PolicyRules, PolicyRulesPatch, SanType};
use domain::profile::Policy;
use domain::{PolicyId, ProjectId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::policies::{NewPolicy, PolicyChange};

use crate::app::App;
use crate::error::Result;
use crate::render::{Page, SUBJECT_ATTRIBUTES, page, timestamp, wrapped, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, date, integer, list, object, one_of, optional, present, required, search_text, text, uuid,
};

const POLICIES: &str = "Certificate policies";

const SAN_TYPES: [&str; 4] =
    [SanType::DnsName.as_str(), SanType::IpAddress.as_str(), SanType::Email.as_str(), SanType::Uri.as_str()];

/// What one family of paths calls a policy.
#[derive(Clone, Copy)]
struct Family {
    one: &'static str,
    many: &'static str,
    all_paths: &'static [&'static str],
    one_paths: &'static [&'static str],
}

const TEMPLATES: Family = Family {
    one: "certificateTemplate",
    many: "certificateTemplates",
    all_paths: &["/api/v2/certificate-templates", "/api/v1/cert-manager/certificate-templates"],
    one_paths: &["/api/v2/certificate-templates/{policyId}", "/api/v1/cert-manager/certificate-templates/{policyId}"],
};

const CERTIFICATE_POLICIES: Family = Family {
    one: "certificatePolicy",
    many: "certificatePolicies",
    all_paths: &["/api/v1/cert-manager/certificate-policies"],
    one_paths: &["/api/v1/cert-manager/certificate-policies/{policyId}"],
};

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    [routes_of(TEMPLATES), routes_of(CERTIFICATE_POLICIES)].concat()
}

fn routes_of(family: Family) -> Vec<Route<App>> {
    let all = |endpoint: fn(&'static str, &'static str, &'static str) -> Endpoint, summary| {
        at(endpoint, family.all_paths, summary)
    };
    let one = |endpoint: fn(&'static str, &'static str, &'static str) -> Endpoint, summary| {
        at(endpoint, family.one_paths, summary)
            .path([required("policyId", uuid())])
            .returns(wrapper(family.one, policy_schema()))
    };
    vec![
        all(Endpoint::post, "Make a certificate policy")
            .body(new_policy_schema())
            .returns(wrapper(family.one, policy_schema()))
            .bearer(move |app, caller, input| create(app, caller, input, family)),
        all(Endpoint::get, "List certificate policies")
            .query([optional("projectId", uuid()), optional("search", search_text().default(json!("")))])
            .query(page(20, 100))
            .returns(object([required(family.many, list(policy_schema())), required("totalCount", integer())]))
            .bearer(move |app, caller, input| list_all(app, caller, input, family)),
        one(Endpoint::get, "Show a certificate policy")
            .bearer(move |app, caller, input| show(app, caller, input, family)),
        one(Endpoint::patch, "Change a certificate policy")
            .describe("A part that is sent replaces the whole part; null clears it.")
            .body(new_policy_schema().without(&["projectId"]).partial())
            .bearer(move |app, caller, input| change(app, caller, input, family)),
        one(Endpoint::delete, "Delete a certificate policy that no profile uses")
            .bearer(move |app, caller, input| delete(app, caller, input, family)),
    ]
}

fn at(
    endpoint: fn(&'static str, &'static str, &'static str) -> Endpoint,
    paths: &'static [&'static str],
    summary: &'static str,
) -> Endpoint {
    let (first, others) = paths.split_first().expect("a family has a path");
    others.iter().fold(endpoint(first, POLICIES, summary), |endpoint, path| endpoint.also_at(path))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: Option<ProjectId>,
    name: String,
    description: Option<String>,
    #[serde(flatten)]
    rules: PolicyRules,
}

#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    #[serde(flatten)]
    rules: PolicyRulesPatch,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    project_id: Option<ProjectId>,
    search: String,
    #[serde(flatten)]
    page: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPolicy {
    policy_id: PolicyId,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: PolicyId,
    project_id: ProjectId,
    name: &'a str,
    description: Option<&'a str>,
    #[serde(flatten)]
    rules: &'a PolicyRules,
    created_at: String,
    updated_at: String,
}

async fn create(app: App, caller: Caller, mut input: Input, family: Family) -> Result<Reply> {
    let New { project_id, name, description, rules } = input.body()?;
    let project = app.services.project_for(&caller, project_id).await?;
    let policy = app.services.create_policy(&caller, project, NewPolicy { name, description, rules }).await?;
    reply(&policy, family)
}

async fn list_all(app: App, caller: Caller, mut input: Input, family: Family) -> Result<Reply> {
    let List { project_id, search, page } = input.query()?;
    let project = app.services.project_for(&caller, project_id).await?;
    let (policies, total) = app.services.policies(&caller, project, &search, page.offset, page.limit).await?;
    let mut body = wrapped(family.many, policies.iter().map(render).collect::<Result<Vec<_>>>()?);
    body["totalCount"] = total.into();
    Reply::json(&body)
}

async fn show(app: App, caller: Caller, mut input: Input, family: Family) -> Result<Reply> {
    let OfPolicy { policy_id } = input.path()?;
    reply(&app.services.policy(&caller, policy_id).await?, family)
}

async fn change(app: App, caller: Caller, mut input: Input, family: Family) -> Result<Reply> {
    let OfPolicy { policy_id } = input.path()?;
    let Change { name, description, rules } = input.body()?;
    let change = PolicyChange { name, description, rules };
    reply(&app.services.change_policy(&caller, policy_id, change).await?, family)
}

async fn delete(app: App, caller: Caller, mut input: Input, family: Family) -> Result<Reply> {
    let OfPolicy { policy_id } = input.path()?;
    reply(&app.services.delete_policy(&caller, policy_id).await?, family)
}

fn reply(policy: &Policy, family: Family) -> Result<Reply> {
    Reply::json(&wrapped(family.one, render(policy)?))
}

fn render(policy: &Policy) -> Result<Value> {
    let shown = Shown {
        id: policy.id,
        project_id: policy.project,
        name: &policy.name,
        description: policy.description.as_deref(),
        rules: &policy.rules,
        created_at: timestamp(policy.created_at),
        updated_at: timestamp(policy.updated_at),
    };
    serde_json::to_value(shown)
        .map_err(|error| domain::Error::failed_because("a certificate policy has no JSON form", error).into())
}

fn new_policy_schema() -> Schema {
    object([
        optional("projectId", uuid().describe("The default project when absent")),
        required("name", text().at_least(1).at_most(255).describe("Stored as a slug")),
        optional("description", text().at_most(1000).nullable()),
        optional("subject", list(pattern_rule(&SUBJECT_ATTRIBUTES)).nullable()),
        optional("sans", list(pattern_rule(&SAN_TYPES)).nullable()),
        optional("keyUsages", usage_rule(&KEY_USAGES)),
        optional("extendedKeyUsages", usage_rule(&EXTENDED_KEY_USAGES)),
        optional(
            "algorithms",
            object([
                optional("signature", list(text()).at_least(1).nullable()),
                optional("keyAlgorithm", list(text()).at_least(1).nullable()),
            ])
            .nullable(),
        ),
        optional(
            "validity",
            object([optional("max", text().nullable().describe("A number of h, d, m (30 days) or y, such as 90d"))])
                .nullable(),
        ),
        optional(
            "basicConstraints",
            object([
                optional("isCA", one_of(&["allowed", "required", "denied"]).nullable()),
                optional("maxPathLength", integer().at_least(-1).at_most(255).nullable().describe("-1 is no limit")),
            ])
            .nullable(),
        ),
    ])
}

/// A rule whose lists hold patterns: literal, or with `*` for any run of characters.
fn pattern_rule(types: &'static [&'static str]) -> Schema {
    object([
        required("type", one_of(types)),
        optional("allowed", list(text()).nullable()),
        optional("required", list(text()).nullable()),
        optional("denied", list(text()).nullable()),
    ])
}

fn usage_rule(usages: &'static [&'static str]) -> Schema {
    object([
        optional("allowed", list(one_of(usages)).nullable()),
        optional("required", list(one_of(usages)).nullable()),
        optional("denied", list(one_of(usages)).nullable()),
    ])
    .nullable()
}

fn policy_schema() -> Schema {
    new_policy_schema().with([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of the issues of a body, joined with dots; none when it is taken.
    fn check(body: Value, expected: &[&str]) {
        let found = match new_policy_schema().check(body.clone()) {
            Ok(clean) => {
                serde_json::from_value::<New>(clean).expect("the type takes what the schema lets through");
                Vec::new()
            }
            Err(issues) => issues
                .iter()
                .map(|issue| {
                    let path = serde_json::to_value(&issue.path).unwrap();
                    let parts = path.as_array().unwrap().iter();
                    parts.map(|part| part.to_string().replace('"', "")).collect::<Vec<_>>().join(".")
                })
                .collect(),
        };
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn a_policy_has_the_shape_of_the_table() {
        for (body, paths) in [
            (json!({"name": "a"}), &[][..]),
            (
                json!({"name": "a", "subject": null, "sans": null, "keyUsages": null, "extendedKeyUsages": null,
                    "algorithms": null, "validity": null, "basicConstraints": null, "description": null}),
                &[],
            ),
            (
                json!({"name": "a", "subject": [{"type": "common_name", "allowed": ["*"], "denied": null}],
                    "sans": [{"type": "dns_name", "required": ["*.example.com"]}],
                    "keyUsages": {"allowed": ["digital_signature"]}, "extendedKeyUsages": {"denied": ["code_signing"]},
                    "algorithms": {"signature": ["SHA256-RSA"], "keyAlgorithm": ["RSA-2048"]},
                    "validity": {"max": "90d"}, "basicConstraints": {"isCA": "denied", "maxPathLength": -1}}),
                &[],
            ),
            (json!({}), &["name"]),
            (json!({"name": ""}), &["name"]),
            (json!({"name": "a", "projectId": "x"}), &["projectId"]),
            (json!({"name": "a", "description": "a".repeat(1001)}), &["description"]),
            (json!({"name": "a", "subject": [{"type": "surname"}]}), &["subject.0.type"]),
            (json!({"name": "a", "sans": [{"type": "dns"}]}), &["sans.0.type"]),
            (json!({"name": "a", "keyUsages": {"allowed": ["crl_sign", "crlSign"]}}), &["keyUsages.allowed.1"]),
            (json!({"name": "a", "extendedKeyUsages": {"denied": ["any"]}}), &["extendedKeyUsages.denied.0"]),
            (json!({"name": "a", "algorithms": {"signature": []}}), &["algorithms.signature"]),
            (json!({"name": "a", "validity": {"max": 90}}), &["validity.max"]),
            (json!({"name": "a", "basicConstraints": {"isCA": true}}), &["basicConstraints.isCA"]),
            (json!({"name": "a", "basicConstraints": {"maxPathLength": -2}}), &["basicConstraints.maxPathLength"]),
        ] {
            check(body, paths);
        }
    }

    #[test]
    fn a_change_tells_null_from_absent() {
        let schema = new_policy_schema().without(&["projectId"]).partial();
        let change: Change = schema.parse(json!({"validity": null, "description": null})).unwrap();
        assert_eq!((change.name, change.description), (None, Some(None)));
        assert_eq!(change.rules, PolicyRulesPatch { validity: Some(None), ..PolicyRulesPatch::default() });
    }
}
