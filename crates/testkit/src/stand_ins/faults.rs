//! What a stand-in is told to do wrong.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Does nothing and answers with this status.
    Refuse(u16),
    /// Does it and answers 500.
    FailAfterSuccess,
    /// Does it and closes the connection.
    CloseAfterSuccess,
    /// Does a part of it and answers 500.
    Partial,
    /// Says that there is nothing of what is there.
    DenyPresence,
    /// Lets somebody else change the object right before.
    Overtake,
}

/// The faults that are still to come, in their order for each operation, and how slow everything is.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Mutex<VecDeque<(String, Fault)>>,
    delay: Mutex<Duration>,
}

/// A request with the whole of its body.
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path, still encoded.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Faults {
    /// The next request of this operation fails like this.
    pub fn add(&self, operation: &str, fault: Fault) {
        lock(&self.waiting).push_back((operation.to_owned(), fault));
    }

    /// Every request takes this long.
    pub fn slow_down(&self, delay: Duration) {
        *lock(&self.delay) = delay;
    }

    /// The fault of this request, which then is used up.
    pub fn take(&self, operation: &str) -> Option<Fault> {
        let mut waiting = lock(&self.waiting);
        let at = waiting.iter().position(|(name, _)| name == operation)?;
        waiting.remove(at).map(|(_, fault)| fault)
    }

    /// Whether every fault was met.
    pub fn are_used_up(&self) -> bool {
        lock(&self.waiting).is_empty()
    }

    fn delay(&self) -> Duration {
        *lock(&self.delay)
    }
}

impl Asked {
    /// A header's text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The segments of the path, decoded.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect()
    }
}

/// Serves a function on a free port of this host, until the runtime ends. A fault that the operation's name draws is
/// carried out here as far as it is about the answer; the function sees the others.
pub async fn serve<S: Send + Sync + 'static>(
    make: impl FnOnce(SocketAddr) -> S,
    faults: fn(&S) -> &Faults,
    operation: fn(&Asked) -> String,
    answer: fn(&S, &Asked, Option<Fault>) -> Response,
) -> Arc<S> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("this host has a free port");
    let address = listener.local_addr().expect("it is bound");
    let made = Arc::new(make(address));
    let state = Arc::clone(&made);
    let handle = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let state = Arc::clone(&state);
        async move {
            tokio::time::sleep(faults(&state).delay()).await;
            let asked = Asked { method, path: uri.path().to_owned(), headers, body };
            let fault = faults(&state).take(&operation(&asked));
            match fault {
                Some(Fault::Refuse(status)) => refusal(status),
                Some(Fault::FailAfterSuccess) => {
                    answer(&state, &asked, fault);
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
                Some(Fault::CloseAfterSuccess) => {
                    answer(&state, &asked, fault);
                    // Ends the task of the connection and so the connection, without a word.
                    std::panic::resume_unwind(Box::new("the stand-in was told to close"))
                }
                Some(Fault::Partial | Fault::DenyPresence | Fault::Overtake) | None => answer(&state, &asked, fault),
            }
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
    made
}

/// An answer of JSON.
pub fn json(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("the stand-ins' statuses are statuses");
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

/// Takes a lock; that another test's thread ended while it held it says nothing about the data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("the tests' statuses are statuses");
    (status, [("retry-after", "0")]).into_response()
}

/// Undoes percent-encoding.
fn decoded(segment: &str) -> String {
    let octets = segment.as_bytes();
    let mut plain = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        let escaped = (octets[at] == b'%')
            .then(|| segment.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        plain.push(escaped.unwrap_or(octets[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}
