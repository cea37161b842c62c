//! What handlers work with, and the order of checks that holds for every call: who asks, then what, then the use case.

use crate::error::{Error, Result, request_id};
use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap};
use domain::caller::Caller;
use domain::identity::{TrustedNetwork, client_address};
use services::Context;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The state of every handler. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Context,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[TrustedNetwork]>,
}

/// Where the listener that a request came by is reached, `host:port`. The listener puts it on every request.
#[derive(Clone, Debug)]
pub struct ListenerAddress(pub Arc<str>);

/// A call of somebody who is known.
pub struct Call {
    /// The use cases.
    pub services: Context,
    /// Who asks.
    pub caller: Caller,
    /// The key under which a repeated change is answered with the operation that is there already (contract §2.8). Calls
    /// that change nothing do not look at it.
    pub idempotency_key: Option<String>,
}

/// A call that needs no token.
pub struct Visit {
    /// The use cases.
    pub services: Context,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Where the listener is reached that it came by.
    pub listener: Option<ListenerAddress>,
}

impl App {
    /// Answers a call that needs a token.
    pub(crate) async fn answer<M, R, F>(
        &self,
        request: Request<M>,
        handle: impl FnOnce(Call, M) -> F,
    ) -> Result<Response<R>, Status>
    where
        F: Future<Output = Result<R>>,
    {
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let answered = async {
            let call = self.call(&headers, &extensions).await?;
            handle(call, message).await
        };
        finished(answered.await, &headers)
    }

    /// The call of whoever the token of a request is.
    pub(crate) async fn call(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Call> {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let caller = self.services.authenticate(authorization, self.address(headers, peer)).await?;
        self.services.must_be_within_rate(&caller)?;
        let idempotency_key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let idempotency_key = idempotency_key.filter(|key| !key.is_empty()).map(str::to_owned);
        Ok(Call { services: self.services.clone(), caller, idempotency_key })
    }

    /// Answers a call that needs no token.
    pub(crate) async fn answer_anybody<M, R, F>(
        &self,
        request: Request<M>,
        handle: impl FnOnce(Visit, M) -> F,
    ) -> Result<Response<R>, Status>
    where
        F: Future<Output = Result<R>>,
    {
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let address = self.address(&headers, peer);
        let visit = Visit { services: self.services.clone(), address, listener: extensions.get().cloned() };
        finished(handle(visit, message).await, &headers)
    }

    fn address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        Some(client_address(&self.trusted_proxies, peer?.ip(), forwarded))
    }
}

/// Writes the answer or the error; a failure of ours is logged here and nowhere else.
fn finished<R>(answered: Result<R>, headers: &HeaderMap) -> Result<Response<R>, Status> {
    let request_id = request_id(headers);
    answered.map(Response::new).map_err(|error: Error| {
        if let Some(cause) = error.failure() {
            tracing::error!(request.id = %request_id, %cause, "a call of the device registry failed");
        }
        error.status(request_id)
    })
}
