//! Whether a Chef Infra Server believes a user of an organisation.

use crate::destination::chef::{ChefServer, said};
use crate::destination::verdict::{Asked, failure};
use crate::{DeliveryError, http::Http};
use domain::connection::Credentials;
use reqwest::{Method, StatusCode};

/// Asks for the user itself, signed by its key.
pub async fn check(http: &Http, credentials: &Credentials) -> Result<(), DeliveryError> {
    let server = ChefServer::open(http, credentials)?;
    let answer = server.send(Method::GET, &server.path_of_user(), None).await?;
    match answer.status {
        StatusCode::OK if answer.json().is_object() => Ok(()),
        StatusCode::NOT_FOUND => {
            Err(DeliveryError::Connection(format!("the user is not in the organisation: {}", said(&answer))))
        }
        _ => Err(failure("the Chef Infra Server", &answer, Asked::Look, &said(&answer))),
    }
}
