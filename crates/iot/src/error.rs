//! How this edge says no: a status of gRPC with its details, which the REST edge writes out as JSON (contract §2.6).

use crate::proto::google::rpc::bad_request::FieldViolation;
use crate::proto::google::rpc::{self, BadRequest, RequestInfo};
use axum::http::HeaderMap;
use axum::http::header::RETRY_AFTER;
use domain::{Reason, Refusal, Violation};
use prost::{Message, Name};
use prost_types::Any;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Why a call was not answered with what it asked for.
#[derive(Debug)]
pub enum Error {
    /// What a use case said, or this edge on its behalf.
    Said(domain::Error),
    /// This server does not do that.
    Unsupported(&'static str),
}

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The header by which a request is named in answers and in the log; the server's own edge sets it on every request.
pub const REQUEST_ID: &str = "x-request-id";
/// The same name once more, where one of the vendor's SDKs looks for it (contract §2.8).
pub const TRACE_ID: &str = "x-server-trace-id";

impl From<domain::Error> for Error {
    fn from(error: domain::Error) -> Self {
        Self::Said(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Said(refusal.into())
    }
}

impl Error {
    /// As a status, with the name of the request in its details.
    pub fn status(&self, request_id: &str) -> Status {
        let (code, message, violations, retry_after) = match self {
            Self::Unsupported(message) => (Code::Unimplemented, *message, &[][..], None),
            Self::Said(domain::Error::Failed(_)) => (Code::Internal, "Something went wrong", &[][..], None),
            Self::Said(domain::Error::Refused(refusal)) => {
                let (code, retry_after) = code(refusal.reason);
                (code, refusal.message.as_str(), refusal.violations.as_slice(), retry_after)
            }
        };
        let mut details = vec![packed(&request_info(request_id))];
        if !violations.is_empty() {
            details.push(packed(&BadRequest { field_violations: violations.iter().map(field_violation).collect() }));
        }
        let mut status = detailed(code, message, details);
        if let Some(seconds) = retry_after {
            status.metadata_mut().insert(RETRY_AFTER.as_str(), MetadataValue::from(seconds));
        }
        status
    }

    /// The cause, when we failed: for the log.
    pub fn failure(&self) -> Option<&domain::Failure> {
        match self {
            Self::Said(domain::Error::Failed(failure)) => Some(failure),
            Self::Said(domain::Error::Refused(_)) | Self::Unsupported(_) => None,
        }
    }
}

/// What the framework said by itself, in the shape of what we say: of a method that there is not, and of a message that it
/// could not read. It knows no other reason to fail before a handler is called (contract §2.6).
pub(crate) fn of_framework(said: &Status, request_id: &str) -> Status {
    let malformed = |rule: &'static str, what: &str| {
        let violation = Violation::new("body", rule, format!("body {what}: {}", said.message()));
        Error::from(Refusal::violations(Reason::Malformed, vec![violation])).status(request_id)
    };
    match said.code() {
        Code::Unimplemented if said.message().is_empty() => {
            Error::Unsupported("there is no such service, or it has no such method").status(request_id)
        }
        Code::Internal => malformed("protobuf", "is not one message of this method"),
        Code::OutOfRange | Code::ResourceExhausted => malformed("size", "is too large"),
        code => {
            let mut status = detailed(code, said.message(), vec![packed(&request_info(request_id))]);
            status.metadata_mut().clone_from(said.metadata());
            status
        }
    }
}

fn detailed(code: Code, message: &str, details: Vec<Any>) -> Status {
    let status = rpc::Status { code: code.into(), message: message.to_owned(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The one table from reasons to codes, and after how many seconds to try again (contract §2.6).
fn code(reason: Reason) -> (Code, Option<u32>) {
    match reason {
        Reason::Unauthenticated | Reason::BadToken => (Code::Unauthenticated, None),
        Reason::PermissionDenied | Reason::NotAMember | Reason::PermissionBoundary | Reason::Forbidden => {
            (Code::PermissionDenied, None)
        }
        Reason::NotFound => (Code::NotFound, None),
        Reason::AlreadyExists => (Code::AlreadyExists, None),
        Reason::Malformed
        | Reason::Invalid
        | Reason::BadRequestSignature
        | Reason::BadKey
        | Reason::AgainstPolicy
        | Reason::TooLarge => (Code::InvalidArgument, None),
        Reason::WrongState => (Code::FailedPrecondition, None),
        // Somebody else changed the same thing at this moment.
        Reason::Conflict => (Code::Aborted, None),
        Reason::TooMany { retry_after_seconds } => (Code::ResourceExhausted, Some(retry_after_seconds)),
        Reason::Unavailable { retry_after_seconds } => (Code::Unavailable, Some(retry_after_seconds)),
        Reason::OutcomeUnknown { retry_after_seconds } => (Code::DeadlineExceeded, Some(retry_after_seconds)),
    }
}

/// How a request is named to whoever made it.
pub(crate) fn request_info(request_id: &str) -> RequestInfo {
    RequestInfo { request_id: request_id.to_owned(), serving_data: String::new() }
}

/// A message in an `Any`, by the type URL that clients look for (contract §4): for details of errors, and for the metadata
/// and the response of an operation.
pub fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation {
        field: violation.field.clone(),
        description: violation.message.clone(),
        reason: violation.rule.to_owned(),
        localized_message: None,
    }
}

/// The name that the server's edge gave a request; empty where there is no such edge, as in tests.
pub(crate) fn request_id(headers: &HeaderMap) -> &str {
    headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_code() {
        for (reason, expected) in [
            (Reason::Unauthenticated, Code::Unauthenticated),
            (Reason::BadToken, Code::Unauthenticated),
            (Reason::PermissionDenied, Code::PermissionDenied),
            (Reason::NotAMember, Code::PermissionDenied),
            (Reason::PermissionBoundary, Code::PermissionDenied),
            (Reason::Forbidden, Code::PermissionDenied),
            (Reason::NotFound, Code::NotFound),
            (Reason::AlreadyExists, Code::AlreadyExists),
            (Reason::Conflict, Code::Aborted),
            (Reason::Malformed, Code::InvalidArgument),
            (Reason::Invalid, Code::InvalidArgument),
            (Reason::BadRequestSignature, Code::InvalidArgument),
            (Reason::BadKey, Code::InvalidArgument),
            (Reason::AgainstPolicy, Code::InvalidArgument),
            (Reason::WrongState, Code::FailedPrecondition),
            (Reason::TooLarge, Code::InvalidArgument),
            (Reason::TooMany { retry_after_seconds: 7 }, Code::ResourceExhausted),
            (Reason::Unavailable { retry_after_seconds: 7 }, Code::Unavailable),
            (Reason::OutcomeUnknown { retry_after_seconds: 7 }, Code::DeadlineExceeded),
        ] {
            let status = Error::from(Refusal::new(reason, "why")).status("id");
            assert_eq!((status.code(), status.message()), (expected, "why"), "{reason:?}");
            let retry_after = status.metadata().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(
                retry_after,
                matches!(expected, Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded).then_some("7")
            );
        }
    }

    #[test]
    fn what_the_framework_says_is_said_in_our_shape() {
        for (said, code, fields) in [
            (Status::unimplemented(""), Code::Unimplemented, &[][..]),
            (Status::unimplemented("Content is compressed with `x`"), Code::Unimplemented, &[]),
            (Status::internal("failed to decode Protobuf message"), Code::InvalidArgument, &["body"]),
            (Status::out_of_range("decoded message length too large"), Code::InvalidArgument, &["body"]),
            (Status::not_found("unknown service"), Code::NotFound, &[]),
            (Status::cancelled("gone"), Code::Cancelled, &[]),
        ] {
            let status = of_framework(&said, "req");
            assert_eq!(status.code(), code);
            assert!(status.message().contains(said.message()) && !status.message().is_empty(), "{status:?}");
            let details = rpc::Status::decode(status.details()).unwrap();
            assert_eq!((details.code, details.message.as_str()), (code.into(), status.message()));
            assert_eq!(RequestInfo::decode(details.details[0].value.as_slice()).unwrap().request_id, "req");
            let bad = details.details.get(1).map(|any| BadRequest::decode(any.value.as_slice()).unwrap());
            let found: Vec<String> =
                bad.iter().flat_map(|bad| &bad.field_violations).map(|violation| violation.field.clone()).collect();
            assert_eq!(found, fields);
        }
    }

    #[test]
    fn a_status_names_the_request_and_every_violation_and_no_cause() {
        let violations = vec![Violation::new("name", "length", "too long"), Violation::new("labels.a", "form", "bad")];
        let status = Error::from(Refusal::violations(Reason::Malformed, violations)).status("req");
        let details = rpc::Status::decode(status.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (3, "too long, bad"));
        let kinds: Vec<&str> = details.details.iter().map(|any| any.type_url.as_str()).collect();
        assert_eq!(kinds, ["type.googleapis.com/google.rpc.RequestInfo", "type.googleapis.com/google.rpc.BadRequest"]);
        let bad = BadRequest::decode(details.details[1].value.as_slice()).unwrap();
        let fields: Vec<&str> = bad.field_violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["name", "labels.a"]);

        let failed = Error::from(domain::Error::failed("the disk is full"));
        assert!(!format!("{:?}", failed.status("req")).contains("disk") && failed.failure().is_some());
        assert_eq!(Error::Unsupported("no").status("req").code(), Code::Unimplemented);
    }
}
