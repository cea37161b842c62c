//! How this edge says no: `{ reqId, statusCode, message, error, details? }` (contract §1.2).
//!
//! Handlers return an [`ApiError`]; [`crate::edge::Edge`] writes it out, because only there the request id is known.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::{Reason, Refusal, Violation};
use serde_json::{Value, json};

use crate::schema::{Code, Issue, Segment};

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub enum ApiError {
    /// The request does not have the shape: 422 with every issue.
    Issues(Vec<Issue>),
    /// What a use case said, or this edge on its behalf.
    Said(domain::Error),
}

/// The name of one request, in error bodies, logs and the `x-request-id` header: `req-` and 14 letters or digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 18]);

/// The result of a handler.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// No such path, or not with this method.
    pub(crate) fn no_route() -> Self {
        domain::Error::not_found("There is no such endpoint").into()
    }

    /// The body is larger than the limit, in octets.
    pub(crate) fn too_large(limit: usize) -> Self {
        Refusal::new(Reason::TooLarge, format!("The body is larger than {limit} octets")).into()
    }

    /// The body with the status, written for this request.
    pub(crate) fn answer(&self, request_id: &RequestId) -> Response {
        let Shape { status, error, message, details, retry_after } = self.shape();
        let mut body = json!({
            "reqId": request_id.as_str(), "statusCode": status.as_u16(), "message": message, "error": error,
        });
        if let Some(details) = details {
            body["details"] = details;
        }
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2: a 401 names the scheme that it wants.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn shape(&self) -> Shape {
        match self {
            Self::Issues(issues) => Shape::of(422, "ValidationFailure", json!(issues)),
            Self::Said(domain::Error::Refused(refusal)) => refusal_shape(refusal),
            Self::Said(domain::Error::Failed(_)) => {
                Shape::of(500, "InternalServerError", "Something went wrong".into())
            }
        }
    }
}

/// What an error looks like on the wire.
struct Shape {
    status: StatusCode,
    error: &'static str,
    message: Value,
    details: Option<Value>,
    retry_after: Option<u32>,
}

impl Shape {
    fn of(status: u16, error: &'static str, message: Value) -> Self {
        let status = StatusCode::from_u16(status).expect("the table holds statuses between 400 and 504");
        Self { status, error, message, details: None, retry_after: None }
    }
}

/// The one table from reasons to statuses (contract §1.2).
fn refusal_shape(refusal: &Refusal) -> Shape {
    let shape = |status, error| Shape::of(status, error, refusal.message.as_str().into());
    let later = |status, error, seconds| Shape { retry_after: Some(seconds), ..shape(status, error) };
    match refusal.reason {
        Reason::Unauthenticated => shape(401, "UnauthorizedError"),
        Reason::BadToken => shape(403, "TokenError"),
        Reason::PermissionDenied => {
            Shape { details: Some(json!(refusal.considered)), ..shape(403, "PermissionDenied") }
        }
        Reason::NotAMember => shape(403, "ProjectMembershipNotFound"),
        Reason::PermissionBoundary => shape(403, "PermissionBoundaryError"),
        Reason::Forbidden => shape(403, "ForbiddenError"),
        Reason::NotFound => shape(404, "NotFound"),
        Reason::Conflict => shape(409, "Conflict"),
        Reason::Malformed => Shape::of(422, "ValidationFailure", json!(issues_of(refusal))),
        Reason::AlreadyExists
        | Reason::Invalid
        | Reason::BadRequestSignature
        | Reason::BadKey
        | Reason::AgainstPolicy
        | Reason::WrongState => shape(400, "BadRequest"),
        Reason::TooLarge => shape(413, "PayloadTooLarge"),
        Reason::TooMany { retry_after_seconds } => later(429, "RateLimitExceeded", retry_after_seconds),
        Reason::Unavailable { retry_after_seconds } => later(503, "ServiceUnavailable", retry_after_seconds),
        Reason::OutcomeUnknown { retry_after_seconds } => later(504, "GatewayTimeoutError", retry_after_seconds),
    }
}

/// What a use case found wrong with the shape, as issues: a violation names its field with dots, `permissions.0.action`.
fn issues_of(refusal: &Refusal) -> Vec<Issue> {
    let segment = |part: &str| match part.parse::<usize>() {
        Ok(index) => Segment::Index(index),
        Err(_) => Segment::Key(part.to_owned().into()),
    };
    let issue = |violation: &Violation| Issue {
        code: Code::Custom,
        path: violation.field.split('.').filter(|part| !part.is_empty()).map(segment).collect(),
        message: violation.message.clone().into(),
    };
    if refusal.violations.is_empty() {
        return vec![Issue { code: Code::Custom, path: Vec::new(), message: refusal.message.clone().into() }];
    }
    refusal.violations.iter().map(issue).collect()
}

impl IntoResponse for ApiError {
    /// A note for [`crate::edge::Edge`], which writes the body.
    fn into_response(self) -> Response {
        let mut response = self.shape().status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<domain::Error> for ApiError {
    fn from(error: domain::Error) -> Self {
        Self::Said(error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Said(refusal.into())
    }
}

impl From<Vec<Issue>> for ApiError {
    fn from(issues: Vec<Issue>) -> Self {
        Self::Issues(issues)
    }
}

impl RequestId {
    /// A new one. It names, it does not protect: the source is fast, not cryptographic.
    pub fn new() -> Self {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut name = *b"req-00000000000000";
        for half in name[4..].chunks_mut(7) {
            let mut bits = next_random();
            for letter in half {
                *letter = ALPHABET[(bits % 62) as usize];
                bits /= 62;
            }
        }
        Self(name)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it is made of ASCII letters")
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// xorshift64*, seeded once per thread from the operating system.
fn next_random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(uuid::Uuid::new_v4().as_u64_pair().0 | 1));
    STATE.with(|state| {
        let mut bits = state.get();
        bits ^= bits >> 12;
        bits ^= bits << 25;
        bits ^= bits >> 27;
        state.set(bits);
        bits.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{object, required, uuid};
    use axum::body::to_bytes;
    use std::collections::HashSet;

    /// The status, the body without its request id, and the `Retry-After` of an error.
    async fn written(error: ApiError) -> (u16, Value, Option<String>) {
        let request_id = RequestId::new();
        let response = error.answer(&request_id);
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), status == 401);
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("it is in memory");
        let mut body: Value = serde_json::from_slice(&body).expect("it is JSON");
        let members = body.as_object_mut().expect("it is an object");
        assert_eq!(members.remove("reqId"), Some(json!(request_id.as_str())));
        assert_eq!(members.remove("statusCode"), Some(json!(status)));
        (status, body, retry_after)
    }

    #[tokio::test]
    async fn every_reason_has_its_status_and_name() {
        for (reason, status, error) in [
            (Reason::Unauthenticated, 401, "UnauthorizedError"),
            (Reason::BadToken, 403, "TokenError"),
            (Reason::PermissionDenied, 403, "PermissionDenied"),
            (Reason::NotAMember, 403, "ProjectMembershipNotFound"),
            (Reason::PermissionBoundary, 403, "PermissionBoundaryError"),
            (Reason::Forbidden, 403, "ForbiddenError"),
            (Reason::NotFound, 404, "NotFound"),
            (Reason::AlreadyExists, 400, "BadRequest"),
            (Reason::Conflict, 409, "Conflict"),
            (Reason::Malformed, 422, "ValidationFailure"),
            (Reason::Invalid, 400, "BadRequest"),
            (Reason::BadRequestSignature, 400, "BadRequest"),
            (Reason::BadKey, 400, "BadRequest"),
            (Reason::AgainstPolicy, 400, "BadRequest"),
            (Reason::WrongState, 400, "BadRequest"),
            (Reason::TooLarge, 413, "PayloadTooLarge"),
            (Reason::TooMany { retry_after_seconds: 7 }, 429, "RateLimitExceeded"),
            (Reason::Unavailable { retry_after_seconds: 7 }, 503, "ServiceUnavailable"),
            (Reason::OutcomeUnknown { retry_after_seconds: 7 }, 504, "GatewayTimeoutError"),
        ] {
            let (found, body, retry_after) = written(Refusal::new(reason, "why").into()).await;
            let expected = match reason {
                Reason::PermissionDenied => json!({"error": error, "message": "why", "details": []}),
                Reason::Malformed => {
                    json!({"error": error, "message": [{"code": "custom", "path": [], "message": "why"}]})
                }
                _ => json!({"error": error, "message": "why"}),
            };
            assert_eq!((found, body), (status, expected), "{reason:?}");
            assert_eq!(retry_after.as_deref(), matches!(status, 429 | 503 | 504).then_some("7"), "{reason:?}");
        }
    }

    #[tokio::test]
    async fn issues_are_the_message_of_a_422() {
        let issues = object([required("id", uuid())]).check(json!({})).expect_err("it is refused");
        let issue = json!({
            "code": "invalid_type", "expected": "string", "received": "undefined", "path": ["id"], "message": "Required",
        });
        let expected = json!({"error": "ValidationFailure", "message": [issue]});
        assert_eq!(written(issues.into()).await, (422, expected, None));
    }

    #[tokio::test]
    async fn what_a_use_case_knows_more_exactly_is_said() {
        let rule = json!({"action": ["read"], "subject": "certificates", "inverted": true, "conditions": {"status": "active"}});
        let mut refusal = Refusal::new(Reason::PermissionDenied, "no");
        refusal.considered = domain::permission::parse_rules("permissions", &json!([rule])).expect("they are rules");
        assert_eq!(written(refusal.into()).await.1["details"], json!([rule]));

        let violations = vec![Violation::new("permissions.0.action", "type", "must be a text")];
        let expected = json!([{"code": "custom", "path": ["permissions", 0, "action"], "message": "must be a text"}]);
        assert_eq!(written(Refusal::violations(Reason::Malformed, violations).into()).await.1["message"], expected);
    }

    #[tokio::test]
    async fn a_failure_does_not_show_its_cause() {
        let expected = json!({"error": "InternalServerError", "message": "Something went wrong"});
        assert_eq!(written(domain::Error::failed("the disk is full").into()).await, (500, expected, None));
    }

    #[test]
    fn request_ids_have_their_form_and_differ() {
        let ids: Vec<RequestId> = (0..1000).map(|_| RequestId::new()).collect();
        for id in &ids {
            let (prefix, name) = id.as_str().split_at(4);
            assert_eq!((prefix, name.len()), ("req-", 14));
            assert!(name.bytes().all(|letter| letter.is_ascii_alphanumeric()));
        }
        assert_eq!(ids.iter().map(RequestId::as_str).collect::<HashSet<_>>().len(), ids.len());
    }
}
