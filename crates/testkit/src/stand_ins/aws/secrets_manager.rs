//! Secrets Manager of the stand-in (API reference of AWS Secrets Manager: CreateSecret, DescribeSecret, GetSecretValue,
//! UpdateSecret, DeleteSecret, ListSecrets, TagResource).

use super::{ACCOUNT, REGION, Refusal, page_start, tags, tags_json, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The stage of the version that is read when nothing else is asked for.
const CURRENT: &str = "AWSCURRENT";
/// The stage of the version that was read before.
const PREVIOUS: &str = "AWSPREVIOUS";
/// The largest value of a secret, in octets.
const VALUE_OCTETS_MAX: usize = 65_536;
/// The largest page of a list.
const PAGE_MAX: usize = 100;

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its versions, by their ids.
    pub versions: BTreeMap<String, String>,
    /// Which version has which stage.
    pub stages: BTreeMap<String, String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// The KMS key, as it was named.
    pub key: Option<String>,
    /// Whether it is scheduled for deletion.
    pub is_scheduled_for_deletion: bool,
    arn: String,
}

/// All secrets, and the rules by which they are kept.
#[derive(Default)]
pub struct SecretStore {
    by_name: BTreeMap<String, StoredSecret>,
    page: Option<usize>,
}

impl StoredSecret {
    /// A secret with one version.
    pub fn of(value: &str, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut secret = Self { tags, ..Self::default() };
        secret.put(&uuid::Uuid::new_v4().to_string(), value);
        secret
    }

    /// The current value.
    pub fn value(&self) -> Option<&str> {
        self.versions.get(self.stages.get(CURRENT)?).map(String::as_str)
    }

    /// Adds a version, which becomes the current one.
    pub fn put(&mut self, version: &str, value: &str) {
        self.versions.insert(version.to_owned(), value.to_owned());
        self.make_current(version);
    }

    fn make_current(&mut self, version: &str) {
        let before = self.stages.insert(CURRENT.to_owned(), version.to_owned());
        if let Some(before) = before.filter(|before| before != version) {
            self.stages.insert(PREVIOUS.to_owned(), before);
        }
    }

    fn stages_by_version(&self) -> Value {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (stage, version) in &self.stages {
            all.entry(version).or_default().push(stage);
        }
        json!(all)
    }
}

impl SecretStore {
    pub(super) fn all(&self) -> &BTreeMap<String, StoredSecret> {
        &self.by_name
    }

    /// Puts a secret in past all rules.
    pub fn seed(&mut self, name: &str, mut secret: StoredSecret) {
        secret.arn = new_arn(name);
        self.by_name.insert(name.to_owned(), secret);
    }

    /// Changes a secret past all rules.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut StoredSecret)) {
        change(self.by_name.get_mut(name).expect("the secret is there"));
    }

    /// Makes pages of lists this short, whatever is asked for.
    pub fn page_by(&mut self, page: usize) {
        self.page = Some(page);
    }

    pub(super) fn run(&mut self, operation: &str, arguments: &Value) -> Result<Value, Refusal> {
        match operation {
            "CreateSecret" => self.create(arguments),
            "DescribeSecret" => {
                let (name, secret) = self.found(arguments)?;
                let mut answer = json!({
                    "ARN": secret.arn, "Name": name, "Tags": tags_json(&secret.tags),
                    "VersionIdsToStages": secret.stages_by_version(),
                });
                if let Some(key) = &secret.key {
                    answer["KmsKeyId"] = key.clone().into();
                }
                if secret.is_scheduled_for_deletion {
                    answer["DeletedDate"] = json!(1_800_000_000);
                }
                Ok(answer)
            }
            "GetSecretValue" => self.value(arguments),
            "UpdateSecret" => self.update(arguments),
            "DeleteSecret" => self.delete(arguments),
            "ListSecrets" => self.list(arguments),
            "TagResource" => {
                let added = tags(arguments);
                let (_, secret) = self.alive(arguments)?;
                secret.tags.extend(added);
                Ok(json!({}))
            }
            _ => Err(Refusal::new("UnknownOperationException", "The operation is not known.")),
        }
    }

    fn found(&self, arguments: &Value) -> Result<(&str, &StoredSecret), Refusal> {
        let id = text(arguments, "SecretId").unwrap_or_default();
        let found = self.by_name.iter().find(|(name, secret)| *name == id || secret.arn == id);
        found.map(|(name, secret)| (name.as_str(), secret)).ok_or_else(absent)
    }

    /// A secret that is not scheduled for deletion.
    fn alive(&mut self, arguments: &Value) -> Result<(String, &mut StoredSecret), Refusal> {
        let name = self.found(arguments)?.0.to_owned();
        let secret = self.by_name.get_mut(&name).ok_or_else(absent)?;
        if secret.is_scheduled_for_deletion {
            let message = "You can't perform this operation on the secret because it was marked for deletion.";
            return Err(Refusal::new("InvalidRequestException", message));
        }
        Ok((name, secret))
    }

    fn create(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let name = text(arguments, "Name").unwrap_or_default();
        let is_name = |character: char| character.is_ascii_alphanumeric() || "/_+=.@-".contains(character);
        if name.is_empty() || name.len() > 512 || !name.chars().all(is_name) {
            return Err(Refusal::new("ValidationException", "Invalid name."));
        }
        let (value, version) = (checked_value(arguments)?, checked_token(arguments)?);
        if let Some(there) = self.by_name.get(name) {
            if there.is_scheduled_for_deletion {
                let message =
                    "You can't create this secret because a secret with this name is already scheduled for deletion.";
                return Err(Refusal::new("InvalidRequestException", message));
            }
            // The same request again is the same secret.
            if there.versions.get(&version).map(String::as_str) != value {
                let message = format!("The operation failed because the secret {name} already exists.");
                return Err(Refusal::new("ResourceExistsException", message));
            }
        } else {
            let mut secret = StoredSecret { tags: tags(arguments).into_iter().collect(), ..StoredSecret::default() };
            secret.key = text(arguments, "KmsKeyId").map(str::to_owned);
            if let Some(value) = value {
                secret.put(&version, value);
            }
            self.seed(name, secret);
        }
        Ok(json!({"ARN": self.by_name[name].arn, "Name": name, "VersionId": version}))
    }

    fn value(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let (name, secret) = self.alive(arguments)?;
        let stage = text(arguments, "VersionStage").unwrap_or(CURRENT);
        let version = text(arguments, "VersionId").or_else(|| secret.stages.get(stage).map(String::as_str));
        let (version, value) =
            version.and_then(|version| Some((version, secret.versions.get(version)?))).ok_or_else(|| {
                let message =
                    format!("Secrets Manager can't find the specified secret value for staging label: {stage}");
                Refusal::new("ResourceNotFoundException", message)
            })?;
        Ok(json!({"ARN": secret.arn, "Name": name, "VersionId": version, "SecretString": value}))
    }

    fn update(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let value = checked_value(arguments)?;
        let version = value.map(|_| checked_token(arguments)).transpose()?;
        let key = text(arguments, "KmsKeyId");
        let (name, secret) = self.alive(arguments)?;
        if let Some(key) = key {
            secret.key = Some(key.to_owned());
        }
        if let (Some(version), Some(value)) = (version, value) {
            secret.put(&version, value);
        }
        Ok(json!({"ARN": secret.arn, "Name": name}))
    }

    fn delete(&mut self, arguments: &Value) -> Result<Value, Refusal> {
        let forced = arguments.get("ForceDeleteWithoutRecovery").and_then(Value::as_bool).unwrap_or(false);
        let (name, secret) = self.alive(arguments)?;
        secret.is_scheduled_for_deletion = true;
        let answer = json!({"ARN": secret.arn, "Name": name, "DeletionDate": 1_800_000_000});
        if forced {
            self.by_name.remove(&name);
        }
        Ok(answer)
    }

    fn list(&self, arguments: &Value) -> Result<Value, Refusal> {
        let asked = arguments.get("MaxResults").and_then(Value::as_u64).map_or(PAGE_MAX, |results| results as usize);
        if !(1..=PAGE_MAX).contains(&asked) {
            return Err(Refusal::new("InvalidParameterException", "MaxResults is between 1 and 100."));
        }
        let mut listed: Vec<Value> = Vec::new();
        for (name, secret) in &self.by_name {
            if !secret.is_scheduled_for_deletion && passes(arguments, name, secret)? {
                listed.push(json!({"ARN": secret.arn, "Name": name, "Tags": tags_json(&secret.tags)}));
            }
        }
        let (start, page) = (page_start(arguments)?, self.page.unwrap_or(asked).min(asked));
        let mut answer = json!({"SecretList": listed.iter().skip(start).take(page).collect::<Vec<_>>()});
        if start + page < listed.len() {
            answer["NextToken"] = format!("page-from-{}", start + page).into();
        }
        Ok(answer)
    }
}

/// Whether a secret passes all filters: each by the beginning of a word, as the list does it.
fn passes(arguments: &Value, name: &str, secret: &StoredSecret) -> Result<bool, Refusal> {
    let filters = arguments.get("Filters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for filter in filters {
        let values: Vec<&str> = filter["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let begins = |text: &str| values.iter().any(|value| text.starts_with(value));
        let passes = match filter["Key"].as_str() {
            Some("name") => begins(name),
            Some("tag-key") => secret.tags.keys().any(|key| begins(key)),
            Some("tag-value") => secret.tags.values().any(|value| begins(value)),
            _ => return Err(Refusal::new("ValidationException", "The key of a filter is not known.")),
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn absent() -> Refusal {
    Refusal::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

fn new_arn(name: &str) -> String {
    let suffix: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
    format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-{suffix}")
}

fn checked_value(arguments: &Value) -> Result<Option<&str>, Refusal> {
    let value = text(arguments, "SecretString");
    if value.is_some_and(|value| value.is_empty() || value.len() > VALUE_OCTETS_MAX) {
        return Err(Refusal::new("ValidationException", "SecretString has 1 to 65536 octets."));
    }
    Ok(value)
}

fn checked_token(arguments: &Value) -> Result<String, Refusal> {
    match text(arguments, "ClientRequestToken") {
        None => Err(Refusal::new("InvalidRequestException", "You must provide a ClientRequestToken value.")),
        Some(token) if (32..=64).contains(&token.len()) => Ok(token.to_owned()),
        Some(_) => Err(Refusal::new("ValidationException", "ClientRequestToken has 32 to 64 characters.")),
    }
}
