//! AWS Secrets Manager: a secret of an item's name whose value is a JSON object of the leaf, its key, its chain and the
//! root, each under the name that the sync gives it.
//!
//! The mark is a tag of the secret. A value is replaced by one call, after which readers see the new version and before
//! which the old one. That call knows no condition, so the version that was found is looked for right before it.
//!
//! Needs the actions `secretsmanager:ListSecrets`, `DescribeSecret`, `GetSecretValue`, `CreateSecret`, `UpdateSecret`,
//! `TagResource` and `DeleteSecret`.

use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::aws::{AwsClient, CallError, Effect, Region, Service};
use domain::secret::SecretText;
use domain::sync::{DestinationConfig, FieldMappings};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;
use x509::Certificate;

/// The tag that holds the mark.
const MARK_TAG: &str = "chancery-object";
/// What encrypts secrets when nothing is said: AWS's own key for this.
const STANDARD_KEY: &str = "alias/aws/secretsmanager";
/// The largest value of a secret, in octets.
const VALUE_OCTETS_MAX: usize = 65_536;
/// The longest name of a secret.
const NAME_CHARACTERS_MAX: usize = 512;
/// More pages than secrets that bear one mark can fill: a list that does not end is a failure.
const PAGES_MAX: usize = 100;

/// Secrets Manager in one region, opened for one run.
pub struct SecretsManager {
    client: AwsClient,
    /// The KMS key that the sync names.
    key_id: Option<String>,
    fields: FieldMappings,
}

/// What a secret says about itself.
struct Description {
    name: String,
    mark: Option<Uuid>,
    is_scheduled_for_deletion: bool,
}

/// The current value of a secret.
struct Current {
    fingerprint: Fingerprint,
    version: Option<String>,
}

impl SecretsManager {
    /// Opens it; nothing is sent yet.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let DestinationConfig::Aws { region, key_id } = opening.config else {
            return Err(DeliveryError::Refused("the place is not a region of AWS".into()));
        };
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Connection("there are no credentials for AWS".into()));
        };
        let fields = opening.options.field_mappings.clone().unwrap_or_default();
        let FieldMappings { certificate, private_key, certificate_chain, ca_certificate } = &fields;
        let names = BTreeSet::from([certificate, private_key, certificate_chain, ca_certificate]);
        if names.len() < 4 || names.iter().any(|name| name.is_empty()) {
            let text = "the names of the four fields of a secret differ and are not empty";
            return Err(DeliveryError::Refused(text.into()));
        }
        let client = AwsClient::new(opening.http, Service::SecretsManager, Region::parse(region)?, credentials)?;
        Ok(Self { client, key_id: key_id.clone(), fields })
    }

    /// The same destination, which gives an answer up after so long.
    pub fn giving_up_after(mut self, timeout: Duration) -> Self {
        self.client = self.client.giving_up_after(timeout);
        self
    }

    async fn call(&self, operation: &str, effect: Effect, arguments: Value) -> Result<Value, CallError> {
        self.client.call(operation, effect, &arguments).await
    }

    /// What a secret says about itself; none when AWS says that there is none.
    async fn describe(&self, id: &str) -> Result<Option<Description>, DeliveryError> {
        let answer = match self.call("DescribeSecret", Effect::Reads, json!({"SecretId": id})).await {
            Ok(answer) => answer,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Description {
            name: text("Name").unwrap_or_else(|| id.to_owned()),
            mark: mark_of(&answer),
            is_scheduled_for_deletion: answer.get("DeletedDate").is_some_and(|date| !date.is_null()),
        }))
    }

    /// A secret that is there and stays; none when AWS says that there is none.
    async fn describe_living(&self, id: &str) -> Result<Option<Description>, DeliveryError> {
        match self.describe(id).await? {
            Some(description) if description.is_scheduled_for_deletion => Err(scheduled_for_deletion(id)),
            description => Ok(description),
        }
    }

    async fn current(&self, id: &str) -> Result<Current, DeliveryError> {
        let answer = match self.call("GetSecretValue", Effect::Reads, json!({"SecretId": id})).await {
            Ok(answer) => answer,
            // The secret was described: what is not there is its value.
            Err(error) if error.is_absence() => {
                return Ok(Current { fingerprint: Fingerprint::from_text("secret=none"), version: None });
            }
            Err(error) => return Err(error.into()),
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let value = text("SecretString").or_else(|| text("SecretBinary")).unwrap_or_default();
        Ok(Current { fingerprint: fingerprint_of(value), version: text("VersionId").map(str::to_owned) })
    }

    async fn found(&self, description: Description) -> Result<Found, DeliveryError> {
        let Current { fingerprint, version } = self.current(&description.name).await?;
        Ok(Found { id: description.name, fingerprint, mark: description.mark, version, details: Vec::new() })
    }

    /// The names of the secrets that bear a mark, other than one. The list lags behind, so it only adds to what was seen.
    async fn bearing(&self, mark: Uuid, except: &str) -> Result<Vec<String>, DeliveryError> {
        let mut names = Vec::new();
        let mut arguments = json!({"Filters": [{"Key": "tag-value", "Values": [mark.to_string()]}]});
        for _ in 0..PAGES_MAX {
            let answer = self.call("ListSecrets", Effect::Reads, arguments.clone()).await?;
            let Some(secrets) = answer.get("SecretList").and_then(Value::as_array) else {
                return Err(DeliveryError::Unavailable("a page of AWS's secrets holds no list".into()));
            };
            let bearing = secrets.iter().filter(|secret| mark_of(secret) == Some(mark));
            let bearing = bearing.filter_map(|secret| secret.get("Name").and_then(Value::as_str));
            names.extend(bearing.filter(|name| *name != except).map(str::to_owned));
            match answer.get("NextToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => arguments["NextToken"] = token.into(),
                None => return Ok(names),
            }
        }
        Err(DeliveryError::Unavailable(format!("AWS's list of secrets does not end within {PAGES_MAX} pages")))
    }

    /// The value of an item's secret. Members are in the order of their names.
    fn value(&self, item: &Item) -> Result<SecretText, DeliveryError> {
        let refusal = "a secret of AWS Secrets Manager holds the private key, which is not held here";
        let key = item.key.as_ref().ok_or_else(|| DeliveryError::Refused(refusal.into()))?;
        let (leaf, chain) = (item.leaf.to_pem(), pem(&item.chain));
        let root = item.root.as_ref().map(Certificate::to_pem).unwrap_or_default();
        let members = BTreeMap::from([
            (&*self.fields.certificate, &*leaf),
            (&*self.fields.private_key, key.expose()),
            (&*self.fields.certificate_chain, &*chain),
            (&*self.fields.ca_certificate, &*root),
        ]);
        let members: BTreeMap<&str, &str> = members.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        Ok(SecretText::new(json!(members).to_string()))
    }

    /// The KMS key that secrets are encrypted with.
    fn key_id(&self) -> &str {
        self.key_id.as_deref().unwrap_or(STANDARD_KEY)
    }
}

impl Destination for SecretsManager {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "/_+=.@-".contains(character);
        if !(1..=NAME_CHARACTERS_MAX).contains(&item.name.len()) || !item.name.chars().all(allowed) {
            return Err(DeliveryError::Refused(format!(
                "{:?} cannot be the name of a secret of AWS: 1 to {NAME_CHARACTERS_MAX} letters, digits and /_+=.@-",
                item.name
            )));
        }
        if self.value(item)?.expose().len() > VALUE_OCTETS_MAX {
            let text = format!("a secret of AWS Secrets Manager holds at most {VALUE_OCTETS_MAX} octets");
            return Err(DeliveryError::Refused(text));
        }
        Ok(())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        self.value(item).ok().map(|value| fingerprint_of(value.expose()))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        match self.describe_living(id).await? {
            Some(description) => self.found(description).await.map(Some),
            None => Ok(None),
        }
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        let mut found: Vec<Found> = self.look(&item.name).await?.into_iter().collect();
        // The name may have been another one when the secret was made.
        for name in self.bearing(item.mark, &item.name).await? {
            found.extend(self.look(&name).await?);
        }
        Ok(found)
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        let value = self.value(item)?;
        let arguments = json!({
            "Name": item.name,
            "SecretString": value.expose(),
            "KmsKeyId": self.key_id(),
            "Description": format!("The certificate {} and its private key", item.serial_number),
            "Tags": [{"Key": MARK_TAG, "Value": item.mark.to_string()}],
            // The same request again is the same secret, and becomes no second one.
            "ClientRequestToken": item.mark.to_string(),
        });
        match self.call("CreateSecret", Effect::Changes, arguments).await {
            Ok(answer) => {
                let version = answer.get("VersionId").and_then(Value::as_str).map(str::to_owned);
                let fingerprint = fingerprint_of(value.expose());
                Ok(Found { id: item.name.clone(), fingerprint, mark: Some(item.mark), version, details: Vec::new() })
            }
            Err(error) if error.has_code("ResourceExistsException") => {
                Err(DeliveryError::Taken(format!("there is a secret {:?} in AWS Secrets Manager already", item.name)))
            }
            Err(error) if error.has_code("InvalidRequestException") => match self.describe(&item.name).await {
                Ok(Some(there)) if there.is_scheduled_for_deletion => Err(scheduled_for_deletion(&item.name)),
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        let value = self.value(item)?;
        let Some(description) = self.describe_living(&found.id).await? else {
            return Err(removed_meanwhile(&found.id));
        };
        let there = self.current(&found.id).await?;
        let is_as_found = match &found.version {
            Some(version) => there.version.as_ref() == Some(version),
            None => there.fingerprint == found.fingerprint,
        };
        if !is_as_found {
            return Err(DeliveryError::Unavailable(format!(
                "somebody else changed the secret {:?} meanwhile, so it was left as it is",
                found.id
            )));
        }
        let version = Uuid::new_v4().to_string();
        let arguments = json!({
            "SecretId": found.id,
            "SecretString": value.expose(),
            "KmsKeyId": self.key_id(),
            // The version has this id, so a request that arrives twice makes one.
            "ClientRequestToken": version,
        });
        self.call("UpdateSecret", Effect::Changes, arguments).await.map_err(|error| match error.is_absence() {
            true => removed_meanwhile(&found.id),
            false => error.into(),
        })?;
        if description.mark != Some(item.mark) {
            let tags = json!([{"Key": MARK_TAG, "Value": item.mark.to_string()}]);
            let tagged = self.call("TagResource", Effect::Changes, json!({"SecretId": found.id, "Tags": tags})).await;
            if let Err(error) = tagged.map_err(DeliveryError::from) {
                tracing::warn!(secret = %found.id, %error, "the tag of a secret in AWS was not sent again");
            }
        }
        let (fingerprint, mark) = (fingerprint_of(value.expose()), Some(item.mark));
        Ok(Found { id: found.id.clone(), fingerprint, mark, version: Some(version), details: Vec::new() })
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        let arguments = json!({"SecretId": found.id, "ForceDeleteWithoutRecovery": true});
        match self.call("DeleteSecret", Effect::Changes, arguments).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absence() => Ok(()),
            // One that is scheduled for deletion is on its way.
            Err(error) if error.has_code("InvalidRequestException") => match self.describe(&found.id).await? {
                Some(there) if !there.is_scheduled_for_deletion => Err(error.into()),
                _ => Ok(()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

fn scheduled_for_deletion(name: &str) -> DeliveryError {
    DeliveryError::Refused(format!(
        "the secret {name:?} is scheduled for deletion in AWS Secrets Manager: restore it, or wait until it is gone"
    ))
}

fn removed_meanwhile(name: &str) -> DeliveryError {
    DeliveryError::Unavailable(format!("the secret {name:?} was removed meanwhile"))
}

fn mark_of(secret: &Value) -> Option<Uuid> {
    let tags = secret.get("Tags")?.as_array()?;
    let tag = tags.iter().find(|tag| tag.get("Key").and_then(Value::as_str) == Some(MARK_TAG))?;
    Uuid::parse_str(tag.get("Value")?.as_str()?).ok()
}

fn pem(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect::<Vec<_>>().join("\n")
}

/// The fingerprint of a value: of an object of texts whatever its spaces and its order, of anything else as it is.
fn fingerprint_of(value: &str) -> Fingerprint {
    match serde_json::from_str::<BTreeMap<String, String>>(value) {
        Ok(members) => Fingerprint::of(&[("secret", json!(members).to_string().as_bytes())]),
        Err(_) => Fingerprint::of(&[("secret", value.as_bytes())]),
    }
}
