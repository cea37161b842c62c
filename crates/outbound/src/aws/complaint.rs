//! What AWS says when it does not do what it was asked to: a code and a message, as JSON or as XML.

use super::Effect;
use crate::DeliveryError;
use crate::http::Answer;
use std::fmt;

/// As much of a message as is handed on, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// Codes that say that the credentials are not believed, or may not do this.
const CREDENTIALS_CODES: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignature",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClient",
    "UnrecognizedClientException",
];
/// Codes that say that it was not done because too much is asked for.
const THROTTLING_CODES: &[&str] = &[
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];
/// Codes that say that it was not done and may be done later.
const LATER_CODES: &[&str] = &["RequestInProgressException", "RequestTimeout", "ServiceUnavailable"];

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The status of the answer.
    pub status: u16,
    /// What AWS calls it: `ResourceNotFoundException`.
    pub code: String,
    /// What AWS says about it; never a secret.
    pub message: String,
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// AWS complains about this one call: its caller knows what that means.
    Complaint(Complaint),
    /// Anything else.
    Delivery(DeliveryError),
}

impl Complaint {
    /// Reads an answer that is no success.
    pub(super) fn read(answer: &Answer) -> Self {
        let json = answer.json();
        let text = String::from_utf8_lossy(&answer.body);
        let word = |name: &str| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let code = word("__type").or_else(|| word("code")).or_else(|| element(&text, "Code"));
        let message = word("message").or_else(|| word("Message")).or_else(|| element(&text, "Message"));
        let header = || answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let code = code.or_else(header).unwrap_or_default();
        // The name may stand behind a namespace and before an address: `com.amazon.coral#ThrottlingException:http://…`.
        let code = code.rsplit('#').next().and_then(|rest| rest.split(':').next()).unwrap_or_default().to_owned();
        Self { status: answer.status.as_u16(), code, message: shown(&message.unwrap_or_default()) }
    }

    /// Whether too much was asked for, so that it was surely not done.
    pub(super) fn is_throttling(&self) -> bool {
        THROTTLING_CODES.contains(&&*self.code)
    }

    /// What the complaint means wherever it is heard.
    pub(super) fn judge(self, effect: Effect) -> CallError {
        let text = self.to_string();
        let code = &&*self.code;
        CallError::Delivery(if CREDENTIALS_CODES.contains(code) || matches!(self.status, 401 | 403) {
            DeliveryError::Connection(text)
        } else if self.is_throttling() || LATER_CODES.contains(code) || matches!(self.status, 429 | 503) {
            DeliveryError::Unavailable(text)
        } else if self.status >= 500 {
            match effect {
                Effect::Reads => DeliveryError::Unavailable(text),
                Effect::Changes => DeliveryError::Unknown(text),
            }
        } else {
            return CallError::Complaint(self);
        })
    }
}

impl CallError {
    /// Whether AWS says that there is no such thing.
    pub fn is_absence(&self) -> bool {
        self.has_code("ResourceNotFoundException")
    }

    /// Whether AWS complains with that code.
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Complaint(complaint) if complaint.code == code)
    }
}

impl From<DeliveryError> for CallError {
    fn from(error: DeliveryError) -> Self {
        Self::Delivery(error)
    }
}

/// A complaint that nobody has a meaning for is a refusal.
impl From<CallError> for DeliveryError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Complaint(complaint) => Self::Refused(complaint.to_string()),
            CallError::Delivery(error) => error,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message } = self;
        match (code.is_empty(), message.is_empty()) {
            (false, false) => write!(formatter, "AWS says {code}: {message}"),
            (false, true) => write!(formatter, "AWS says {code}"),
            (true, _) => write!(formatter, "AWS answers with status {status} and no reason"),
        }
    }
}

/// The text of the first element of that name, in an XML document that we look into no further.
pub(super) fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(text.trim().to_owned(), |text, (entity, character)| text.replace(entity, character)))
}

/// The part of a message that can be shown. What follows the first line repeats the request when a signature is wrong, a
/// session token with it; and a private key that is repeated is shown to nobody.
fn shown(message: &str) -> String {
    let line = message.trim().lines().next().unwrap_or_default();
    if line.contains("PRIVATE KEY") {
        return "the message repeats a private key and is not shown".into();
    }
    line.chars().take(MESSAGE_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn the_code_and_the_message_are_read_in_every_form() {
        for (body, code, message) in [
            (
                r#"{"__type":"com.amazonaws.acm#LimitExceededException","message":"Too many"}"#,
                "LimitExceededException",
                "Too many",
            ),
            (r#"{"__type":"ThrottlingException:http://internal/","Message":"Slow"}"#, "ThrottlingException", "Slow"),
            (
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>&lt;no&gt; &amp;amp;</Message></Error></ErrorResponse>",
                "AccessDenied",
                "<no> &amp;",
            ),
            ("oh dear", "", ""),
        ] {
            let complaint = Complaint::read(&answer(400, body));
            assert_eq!((&*complaint.code, &*complaint.message), (code, message), "{body}");
        }
    }

    #[test]
    fn a_message_that_repeats_what_was_sent_is_not_handed_on() {
        let body = serde_json::json!({
            "__type": "InvalidSignatureException",
            "message": "The signature does not match.\n\nThe Canonical String should have been\nx-amz-security-token:SECRET",
        });
        assert_eq!(Complaint::read(&answer(400, &body.to_string())).message, "The signature does not match.");
        let body = serde_json::json!({"__type": "ValidationException", "message": "-----BEGIN PRIVATE KEY-----MII"});
        assert!(!Complaint::read(&answer(400, &body.to_string())).to_string().contains("MII"));
    }

    #[test]
    fn each_code_has_its_meaning() {
        let judge = |status: u16, code: &str, effect: Effect| {
            Complaint::read(&answer(status, &format!(r#"{{"__type":"{code}"}}"#))).judge(effect)
        };
        for code in [
            "AccessDeniedException",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "ExpiredTokenException",
        ] {
            let error = judge(400, code, Effect::Changes);
            assert!(matches!(error, CallError::Delivery(DeliveryError::Connection(_))), "{code}: {error:?}");
        }
        let unavailable = |error| matches!(error, CallError::Delivery(DeliveryError::Unavailable(_)));
        assert!(unavailable(judge(400, "ThrottlingException", Effect::Changes)));
        assert!(unavailable(judge(503, "", Effect::Changes)));
        assert!(unavailable(judge(500, "InternalFailure", Effect::Reads)));
        let unknown = judge(500, "InternalFailure", Effect::Changes);
        assert!(matches!(unknown, CallError::Delivery(DeliveryError::Unknown(_))));
        assert!(judge(400, "ResourceNotFoundException", Effect::Reads).is_absence());
        let error = DeliveryError::from(judge(400, "LimitExceededException", Effect::Changes));
        assert!(matches!(error, DeliveryError::Refused(_)));
    }
}
