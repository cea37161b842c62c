//! Why a command did not do what it was asked, in words that a person can act on.

use std::{fmt, process::ExitCode};

use serde_json::Value;

use crate::cli::output::printable;

/// An error as it is printed: one line, what it consists of, the server's request id, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    details: Vec<String>,
    request_id: Option<String>,
    hint: Option<String>,
    /// The HTTP status, when a server answered.
    pub(crate) status: Option<u16>,
    exit_code: u8,
}

impl Failure {
    /// Something that went wrong.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), details: Vec::new(), request_id: None, hint: None, status: None, exit_code: 1 }
    }

    /// Something that was typed wrongly, found only after the arguments were read.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: 2, ..Self::new(message) }
    }

    /// What the caller could do about it. The first hint stays.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// A further line below the message.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// What a server refused, from its status and body (contract §1.2, 1.3).
    pub(crate) fn answered(status: u16, body: &Value) -> Self {
        let mut failure = match body.get("message") {
            Some(Value::String(message)) if !message.trim().is_empty() => Self::new(message.trim()),
            Some(Value::Array(issues)) => {
                let start = Self::new("the server does not accept the request");
                issues.iter().fold(start, |failure, issue| failure.detail(issue_in_words(issue)))
            }
            Some(_) | None => Self::new(format!("the server answered with status {status}")),
        };
        failure.status = Some(status);
        // The device registry names the request in the details of its refusals.
        let request_id = body.get("reqId").or_else(|| body.pointer("/details/0/requestId"));
        failure.request_id = request_id.and_then(Value::as_str).map(str::to_owned);
        let kind = body.get("error").and_then(Value::as_str).unwrap_or_default();
        match hint_for(status, kind) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Prints it to standard error and gives the exit code.
    pub(crate) fn print(&self) -> ExitCode {
        eprint!("{self}");
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "error: {}", printable(&self.message))?;
        for detail in &self.details {
            writeln!(formatter, "  - {}", printable(detail))?;
        }
        if let Some(id) = &self.request_id {
            writeln!(formatter, "  request id: {}", printable(id))?;
        }
        if let Some(hint) = &self.hint {
            writeln!(formatter, "  hint: {hint}")?;
        }
        Ok(())
    }
}

fn hint_for(status: u16, kind: &str) -> Option<&'static str> {
    match (status, kind) {
        (401, _) | (403, "TokenError") => Some("check the CHANCERY_… variables, or run chancery login again"),
        (403, "PermissionDenied" | "") => {
            Some("an admin of the project can give the role: chancery identity grant --help")
        }
        (403, "ProjectMembershipNotFound") => {
            Some("an admin of the project can make this identity a member: chancery identity grant --help")
        }
        (413, _) => Some("the request is larger than the server takes"),
        (429, _) => Some("the server is asked too often; wait and try again"),
        (500.., _) => Some("the server's log has the cause under this request id"),
        _ => None,
    }
}

/// `altNames.0.value: Required`
fn issue_in_words(issue: &Value) -> String {
    let message = issue.get("message").and_then(Value::as_str).unwrap_or("not accepted");
    let path: Vec<String> = issue
        .get("path")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
        .collect();
    if path.is_empty() { message.to_owned() } else { format!("{}: {message}", path.join(".")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(status: u16, body: Value, expected: &str) {
        assert_eq!(Failure::answered(status, &body).to_string(), expected);
    }

    #[test]
    fn a_refusal_is_printed_with_its_request_id_and_what_to_do() {
        check(
            400,
            json!({ "reqId": "req-abc", "statusCode": 400, "message": "at most 90 days", "error": "BadRequest" }),
            "error: at most 90 days\n  request id: req-abc\n",
        );
        check(
            422,
            json!({ "reqId": "req-abc", "message": [
                { "path": ["altNames", 0, "value"], "message": "Required" },
                { "path": [], "message": "ttl and notAfter exclude each other" },
            ] }),
            "error: the server does not accept the request\n  - altNames.0.value: Required\n  - ttl and notAfter \
             exclude each other\n  request id: req-abc\n",
        );
        check(
            401,
            json!({ "message": "unknown token", "error": "UnauthorizedError" }),
            "error: unknown token\n  hint: check the CHANCERY_… variables, or run chancery login again\n",
        );
        check(
            404,
            json!({ "code": 5, "message": "there is no device x", "details": [{ "requestId": "req-abc" }] }),
            "error: there is no device x\n  request id: req-abc\n",
        );
        check(404, Value::Null, "error: the server answered with status 404\n");
    }

    #[test]
    fn what_a_server_says_cannot_move_the_cursor() {
        check(400, json!({ "message": "a\u{1b}[2Jb" }), "error: a\u{fffd}[2Jb\n");
    }
}
