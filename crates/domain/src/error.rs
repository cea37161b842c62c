//! What a use case can say when it did not do what it was asked.
//!
//! A refusal is safe to show and tells a stranger what to do. A failure is ours: it is logged once, with its cause, and
//! shown only as a request id. Each edge translates reasons in one exhaustive match.

use std::fmt;

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a use case did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The caller can act on this. Safe to show.
    Refused(Box<Refusal>),
    /// We failed. Logged with its cause, shown only as a request id.
    Failed(Failure),
}

/// A refusal that the caller can act on.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The class of the refusal, which each edge translates into its own codes.
    pub reason: Reason,
    /// What was refused and what would be accepted, in words for a stranger.
    pub message: String,
    /// The single rules that were broken, when there are several.
    pub violations: Vec<Violation>,
    /// The permission rules that were considered and did not allow it.
    pub considered: Vec<crate::permission::Rule>,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field that breaks it, as the caller names it.
    pub field: String,
    /// The short name of the rule.
    pub rule: &'static str,
    /// What was found and what is allowed.
    pub message: String,
}

/// The class of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nobody, or not who they say: no token, an unknown, revoked or used-up one, a bad login.
    Unauthenticated,
    /// The bearer token itself is malformed, wrongly signed or past its `exp`.
    BadToken,
    /// The caller's role lacks an action.
    PermissionDenied,
    /// The caller is not a member of the project.
    NotAMember,
    /// Assigning this role would give more than the caller has.
    PermissionBoundary,
    /// The object itself refuses, whatever the role.
    Forbidden,
    /// No such object in the caller's organisation.
    NotFound,
    /// An object of that name is there already.
    AlreadyExists,
    /// An idempotency key was used with another body.
    Conflict,
    /// The message does not have the shape that was asked for.
    Malformed,
    /// The message has the right shape and breaks a rule.
    Invalid,
    /// The signature of a certification request does not hold.
    BadRequestSignature,
    /// The key is too weak, malformed or of a kind that is not accepted.
    BadKey,
    /// The policy of the profile does not allow this.
    AgainstPolicy,
    /// The object is not in a state in which this can be done.
    WrongState,
    /// The body is larger than the limit.
    TooLarge,
    /// Too often, or too many at once.
    TooMany {
        /// Seconds after which trying again makes sense.
        retry_after_seconds: u32,
    },
    /// A part that is needed does not answer now, and nothing was done.
    Unavailable {
        /// Seconds after which trying again makes sense.
        retry_after_seconds: u32,
    },
    /// The answer to something that was under way did not come: it was done or not.
    OutcomeUnknown {
        /// Seconds after which trying again makes sense.
        retry_after_seconds: u32,
    },
}

/// A failure of ours, with its cause for the log.
pub struct Failure {
    context: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Refusal {
    /// A refusal without single violations.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), violations: Vec::new(), considered: Vec::new() }
    }

    /// All the rules that were broken, joined into one message in their order.
    pub fn violations(reason: Reason, violations: Vec<Violation>) -> Self {
        let message = violations.iter().map(|violation| violation.message.as_str()).collect::<Vec<_>>().join(", ");
        Self { reason, message, violations, considered: Vec::new() }
    }
}

impl Violation {
    /// One broken rule.
    pub fn new(field: impl Into<String>, rule: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), rule, message: message.into() }
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $reason:expr;)*) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Self::Refused(Box::new(Refusal::new($reason, message)))
            })*
        }
    };
}

refusals! {
    /// Nobody, or not who they say.
    unauthenticated => Reason::Unauthenticated;
    /// A malformed, wrongly signed or expired token.
    bad_token => Reason::BadToken;
    /// The role lacks an action.
    permission_denied => Reason::PermissionDenied;
    /// Not a member of the project.
    not_a_member => Reason::NotAMember;
    /// More than the caller has.
    permission_boundary => Reason::PermissionBoundary;
    /// The object itself refuses.
    forbidden => Reason::Forbidden;
    /// No such object.
    not_found => Reason::NotFound;
    /// It is there already.
    already_exists => Reason::AlreadyExists;
    /// An idempotency key with another body.
    conflict => Reason::Conflict;
    /// Not the shape that was asked for.
    malformed => Reason::Malformed;
    /// The right shape, but it breaks a rule.
    invalid => Reason::Invalid;
    /// The request's own signature does not hold.
    bad_request_signature => Reason::BadRequestSignature;
    /// A key that is not accepted.
    bad_key => Reason::BadKey;
    /// Not allowed by the policy.
    against_policy => Reason::AgainstPolicy;
    /// Not in this state.
    wrong_state => Reason::WrongState;
}

impl Error {
    /// A failure of ours, described for the log.
    pub fn failed(context: impl Into<String>) -> Self {
        Self::Failed(Failure { context: context.into(), cause: None })
    }

    /// A failure of ours with its cause.
    pub fn failed_because(
        context: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed(Failure { context: context.into(), cause: Some(cause.into()) })
    }

    /// One field that breaks one rule.
    pub fn invalid_field(field: &str, rule: &'static str, message: impl Into<String>) -> Self {
        Refusal::violations(Reason::Invalid, vec![Violation::new(field, rule, message)]).into()
    }

    /// Too often, or too many at once.
    pub fn too_many(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::Refused(Box::new(Refusal::new(Reason::TooMany { retry_after_seconds }, message)))
    }

    /// A part that is needed does not answer now.
    pub fn unavailable(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::Refused(Box::new(Refusal::new(Reason::Unavailable { retry_after_seconds }, message)))
    }

    /// It was done or not, and nobody knows yet.
    pub fn outcome_unknown(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::Refused(Box::new(Refusal::new(Reason::OutcomeUnknown { retry_after_seconds }, message)))
    }

    /// The reason, when this is a refusal.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            Self::Failed(_) => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => formatter.write_str(&refusal.message),
            Self::Failed(failure) => failure.fmt(formatter),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.context)?;
        if let Some(cause) = &self.cause {
            write!(formatter, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
