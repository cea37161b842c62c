//! A role that the server takes: STS lends an access key for it to whoever the server is by its environment.

use super::complaint::element;
use super::{AccessKey, CallError, Effect, Place};
use crate::DeliveryError;
use crate::http::Request;
use domain::connection::Credentials;
use domain::secret::SecretText;
use reqwest::Method;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The version of the API.
const VERSION: &str = "2011-06-15";
/// How STS names the session.
const SESSION_NAME: &str = "chancery";
/// A key is lent for an hour; another is asked for well before.
const LENT_FOR: Duration = Duration::from_secs(45 * 60);

/// A role, and the key that was lent for it last.
pub(super) struct Role {
    /// STS.
    tokens: Place,
    arn: String,
    lent: Mutex<Option<(AccessKey, Instant)>>,
}

impl Role {
    pub(super) fn new(tokens: Place, arn: String) -> Self {
        Self { tokens, arn, lent: Mutex::new(None) }
    }

    /// The key that is lent for the role. Whoever comes while it is asked for waits for that very one.
    pub(super) async fn access_key(&self) -> Result<AccessKey, DeliveryError> {
        let mut lent = self.lent.lock().await;
        if let Some((key, since)) = &*lent
            && since.elapsed() < LENT_FOR
        {
            return Ok(key.clone());
        }
        let key = self.assume(&environment_key(|name| std::env::var(name).ok())?).await?;
        *lent = Some((key.clone(), Instant::now()));
        Ok(key)
    }

    async fn assume(&self, own: &AccessKey) -> Result<AccessKey, DeliveryError> {
        let arguments = [("Action", "AssumeRole"), ("RoleArn", &self.arn), ("RoleSessionName", SESSION_NAME)];
        let document = ask(&self.tokens, own, &arguments).await.map_err(|error| match error {
            // A role that cannot be taken is trouble with the connection, whatever its code.
            CallError::Complaint(complaint) => {
                DeliveryError::Connection(format!("the role {} was not taken: {complaint}", self.arn))
            }
            CallError::Delivery(error) => error,
        })?;
        let part = |name: &str| {
            element(&document, name)
                .ok_or_else(|| DeliveryError::Connection(format!("STS lent a key for {} without its {name}", self.arn)))
        };
        Ok(AccessKey {
            id: part("AccessKeyId")?,
            secret: SecretText::new(part("SecretAccessKey")?),
            session: Some(SecretText::new(part("SessionToken")?)),
        })
    }
}

/// The ARN of whoever the client is.
pub(super) async fn caller_identity(tokens: &Place, key: &AccessKey) -> Result<String, DeliveryError> {
    let document = ask(tokens, key, &[("Action", "GetCallerIdentity")]).await.map_err(|error| match error {
        CallError::Complaint(complaint) => DeliveryError::Connection(complaint.to_string()),
        CallError::Delivery(error) => error,
    })?;
    element(&document, "Arn")
        .ok_or_else(|| DeliveryError::Connection("STS does not say who the credentials belong to".into()))
}

/// The region whose STS knows the credentials when nothing else names one. A role tells its partition.
pub(super) fn home_region(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::AwsAssumeRole { role_arn, .. } if role_arn.starts_with("arn:aws-cn:") => "cn-north-1",
        Credentials::AwsAssumeRole { role_arn, .. } if role_arn.starts_with("arn:aws-us-gov:") => "us-gov-west-1",
        _ => "us-east-1",
    }
}

/// Calls STS, which takes forms and answers with XML. Nothing that is asked here changes anything.
async fn ask(tokens: &Place, key: &AccessKey, arguments: &[(&str, &str)]) -> Result<String, CallError> {
    let mut form = format!("Version={VERSION}");
    for (name, value) in arguments {
        form.push_str(&format!("&{name}={}", super::upload::percent_encoded(value, "")));
    }
    let request = Request::new(Method::POST, &format!("{}/", tokens.endpoint))?
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")?;
    let answer = tokens.send(key, Request { body: form.into_bytes(), ..request }, Effect::Reads).await?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Who the server itself is, by its environment.
fn environment_key(variable: impl Fn(&str) -> Option<String>) -> Result<AccessKey, DeliveryError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let needed = |name: &str| {
        set(name).ok_or_else(|| {
            DeliveryError::Connection(format!(
                "the server has no AWS identity of its own to take a role with: {name} is not set in its environment"
            ))
        })
    };
    Ok(AccessKey {
        id: needed("AWS_ACCESS_KEY_ID")?,
        secret: SecretText::new(needed("AWS_SECRET_ACCESS_KEY")?),
        session: set("AWS_SESSION_TOKEN").map(SecretText::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_an_identity_says_which_variable_is_missing() {
        let of = |set: &[(&'static str, &'static str)]| {
            let set = set.to_vec();
            environment_key(move |name| set.iter().find(|one| one.0 == name).map(|one| one.1.to_owned()))
        };
        for (set, missing) in [
            (&[][..], "AWS_ACCESS_KEY_ID"),
            (&[("AWS_ACCESS_KEY_ID", "AKID")][..], "AWS_SECRET_ACCESS_KEY"),
            (&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "s")][..], "AWS_ACCESS_KEY_ID"),
        ] {
            let error = of(set).unwrap_err();
            assert!(error.is_of_connection() && error.to_string().contains(missing), "{error}");
        }
        let key =
            of(&[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")]).unwrap();
        assert_eq!((&*key.id, key.session.unwrap().expose()), ("AKID", "t"));
    }
}
