//! The state of this edge: the use cases, and which proxies are believed about where a caller comes from.

use crate::error::Result;
use crate::route::Application;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use domain::caller::Caller;
use domain::identity::TrustedNetwork;
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
        let peer = peer?.ip().to_canonical();
        if !self.is_proxy(peer) {
            return Some(peer);
        }
        let forwarded = headers.get_all("x-forwarded-for").iter().rev().filter_map(|value| value.to_str().ok());
        let addresses = forwarded.flat_map(|list| list.rsplit(',')).map(|text| text.trim().parse::<IpAddr>());
        for address in addresses {
            match address {
                Ok(address) if self.is_proxy(address.to_canonical()) => {}
                Ok(address) => return Some(address.to_canonical()),
                Err(_) => break,
            }
        }
        Some(peer)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

impl Application for App {
    type Caller = Caller;

    async fn authenticate(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller> {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        Ok(self.services.authenticate(authorization, self.address(headers, peer)).await?)
    }
}
