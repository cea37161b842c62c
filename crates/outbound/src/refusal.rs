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

/// A text of somebody else without the private keys that stand in it, which a command may have printed: each block in PEM up to
/// its end, or up to the end of the text.
pub(crate) fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const DASHES: &str = "-----";
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let label_at = begin + BEGIN.len();
        let label = rest[label_at..].split(DASHES).next().unwrap_or_default();
        if !label.ends_with("PRIVATE KEY") {
            kept.push_str(&rest[..label_at]);
            rest = &rest[label_at..];
            continue;
        }
        kept.push_str(&rest[..begin]);
        kept.push_str("(a private key)");
        let end = format!("-----END {label}-----");
        rest = rest[label_at..].split_once(end.as_str()).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod key_tests {
    use super::without_private_keys;

    #[test]
    fn private_keys_are_taken_out_and_certificates_stay() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----";
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        assert_eq!(
            without_private_keys(&format!("a\n{key}\n{certificate}\n{key}z")),
            format!("a\n(a private key)\n{certificate}\n(a private key)z")
        );
        assert_eq!(without_private_keys("x -----BEGIN EC PRIVATE KEY-----\nMHcC"), "x (a private key)");
        assert_eq!(without_private_keys("nothing"), "nothing");
    }
}
