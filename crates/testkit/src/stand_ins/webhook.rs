//! A receiver of messages about certificates. It believes none that is not signed with its secret, or that is old.

use super::faults::{self, Asked, Fault, Faults, lock};
use aws_lc_rs::hmac;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The receiver.
pub struct Webhook {
    /// What it is told to do wrong: `message`.
    pub faults: Faults,
    address: SocketAddr,
    secret: String,
    messages: Mutex<Vec<Value>>,
}

/// How old a message may be.
const AGE_MILLISECONDS_MAX: i64 = 5 * 60 * 1000;

impl Webhook {
    /// Starts one with this secret.
    pub async fn start(secret: &str) -> Arc<Self> {
        let secret = secret.to_owned();
        let make = |address| Self { faults: Faults::default(), address, secret, messages: Mutex::default() };
        faults::serve(make, |server| &server.faults, |_| "message".to_owned(), Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every message that it took, in order.
    pub fn messages(&self) -> Vec<Value> {
        lock(&self.messages).clone()
    }

    fn answer(&self, asked: &Asked, _: Option<Fault>) -> Response {
        if asked.method != Method::POST || asked.header("content-type") != "application/json" {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        if !self.believes(asked) {
            return (StatusCode::UNAUTHORIZED, "the signature is wrong").into_response();
        }
        lock(&self.messages).push(asked.json());
        StatusCode::ACCEPTED.into_response()
    }

    fn believes(&self, asked: &Asked) -> bool {
        let Some((time, tag)) =
            asked.header("x-infisical-signature").strip_prefix("t=").and_then(|rest| rest.split_once(",v1="))
        else {
            return false;
        };
        let Ok(sent_at) = time.parse::<i64>() else { return false };
        let is_fresh = (Timestamp::now().as_millisecond() - sent_at).abs() < AGE_MILLISECONDS_MAX;
        let octets: Option<Vec<u8>> = (0..tag.len())
            .step_by(2)
            .map(|at| tag.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signed = [time.as_bytes(), b".", &asked.body].concat();
        is_fresh && octets.is_some_and(|octets| hmac::verify(&key, &signed, &octets).is_ok())
    }
}
