//! The state of this edge: the use cases, and which proxies are believed about where a caller comes from.

use crate::error::Result;
use crate::route::Application;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use domain::Error;
use domain::caller::Caller;
use domain::identity::{TrustedNetwork, client_address};
use services::Context;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The state of every handler. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Context,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[TrustedNetwork]>,
}

impl App {
    /// Where a request comes from: the peer, or what a trusted proxy says of it.
    pub fn address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        Some(client_address(&self.trusted_proxies, peer?.ip(), forwarded))
    }
}

impl Application for App {
    type Caller = Caller;

    async fn authenticate(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller> {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Contract §2.1: other kinds of credential exist elsewhere.
        if authorization.is_none() && headers.contains_key("x-api-key") {
            return Err(Error::forbidden("API keys are not accepted here; log in with Universal Auth").into());
        }
        Ok(self.services.authenticate(authorization, self.address(headers, peer)).await?)
    }

    fn admit(&self, caller: &Caller) -> Result<()> {
        Ok(self.services.must_be_within_rate(caller)?)
    }
}
