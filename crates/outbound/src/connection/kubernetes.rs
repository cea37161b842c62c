//! Whether a Kubernetes API server believes a token.

use crate::destination::kubernetes::{ApiServer, refusal};
use crate::destination::verdict::Asked;
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// Asks for a review of the account's own access, which every account may ask for. What it may do in which namespace is not
/// a matter of the connection, so the verdict of the review is not looked at.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "secrets"}},
    });
    let server = ApiServer::open(http, credentials)?;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = server.send(Method::POST, path, Some(&review)).await;
    let answer = asked.map_err(|error| match error {
        // A question changes nothing, even if it is a POST.
        DeliveryError::Unknown(text) => DeliveryError::Unavailable(text),
        DeliveryError::Connection(_)
        | DeliveryError::Refused(_)
        | DeliveryError::Taken(_)
        | DeliveryError::Unavailable(_) => error,
    })?;
    match answer.status {
        StatusCode::CREATED | StatusCode::OK if answer.json()["status"]["allowed"].is_boolean() => Ok(()),
        StatusCode::UNAUTHORIZED => {
            Err(DeliveryError::Connection("the Kubernetes API does not believe the token (401)".into()))
        }
        StatusCode::FORBIDDEN => Err(DeliveryError::Connection(
            "the Kubernetes API knows the token, but its account may not even ask what it may do (403)".into(),
        )),
        _ => Err(refusal(&answer, Asked::Look)),
    }
}
