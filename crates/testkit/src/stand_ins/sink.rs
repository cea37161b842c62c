//! Anybody who takes JSON by POST, at any path, and keeps it.

use super::faults::{self, Asked, Fault, Faults, lock};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The taker.
pub struct Sink {
    /// What it is told to do wrong: the path is the operation.
    pub faults: Faults,
    address: SocketAddr,
    taken: Mutex<Vec<Value>>,
}

impl Sink {
    /// Starts one.
    pub async fn start() -> Arc<Self> {
        let make = |address| Self { faults: Faults::default(), address, taken: Mutex::default() };
        faults::serve(make, |server| &server.faults, |asked| asked.path.clone(), Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it took, in order.
    pub fn taken(&self) -> Vec<Value> {
        lock(&self.taken).clone()
    }

    fn answer(&self, asked: &Asked, _: Option<Fault>) -> Response {
        if asked.method != Method::POST || asked.header("content-type") != "application/json" || asked.json().is_null()
        {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        lock(&self.taken).push(asked.json());
        StatusCode::ACCEPTED.into_response()
    }
}
