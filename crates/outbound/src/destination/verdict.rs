//! What an answer that is not a success says about a request, where a vendor has no rule of its own.

use crate::{DeliveryError, http::Answer};
use reqwest::StatusCode;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To show something.
    Look,
    /// To change something.
    Change,
}

/// The failure that an answer stands for. `said` is the other system's own message.
pub(crate) fn failure(system: &str, answer: &Answer, asked: Asked, said: &str) -> DeliveryError {
    let text = match said.trim() {
        "" => format!("{system} answered {}", answer.status),
        // A refusal that quotes what it was sent would carry the key into messages.
        said if said.contains("PRIVATE KEY") => format!("{system} answered {}, quoting the key", answer.status),
        said => format!("{system} answered {}: {said}", answer.status),
    };
    match (answer.status, asked) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => DeliveryError::Connection(text),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT, _) => {
            DeliveryError::Unavailable(text)
        }
        (status, Asked::Change) if status.is_server_error() => DeliveryError::Unknown(text),
        (status, Asked::Look) if status.is_server_error() => DeliveryError::Unavailable(text),
        (status, Asked::Change) if status.is_success() => {
            DeliveryError::Unknown(format!("{text}, which is not an answer to the change"))
        }
        _ => DeliveryError::Refused(text),
    }
}

/// What is said of an object that is not as it was found.
pub(crate) fn changed_meanwhile(id: &str) -> DeliveryError {
    DeliveryError::Unavailable(format!("{id} was changed by somebody else meanwhile; nothing was done"))
}
