//! What an answer that is no success means for a delivery, by its status alone.

use crate::{DeliveryError, http::Answer};
use reqwest::StatusCode;

/// What a request was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing at the other side: a 5xx changed nothing.
    Reading,
    /// Something: after a 5xx it may have been done.
    Changing,
}

/// The error; `words` are the other system's, and say what was asked of it.
pub(crate) fn of(answer: &Answer, purpose: Purpose, words: String) -> DeliveryError {
    match (answer.status, purpose) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => DeliveryError::Connection(words),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT, _) => {
            DeliveryError::Unavailable(words)
        }
        (status, Purpose::Reading) if status.is_server_error() => DeliveryError::Unavailable(words),
        (status, Purpose::Changing) if status.is_server_error() => DeliveryError::Unknown(words),
        _ => DeliveryError::Refused(words),
    }
}
