//! `yandex.cloud.endpoint.ApiEndpointService`: how clients find the services (contract §2.9). Needs no token.

use crate::app::{App, Visit};
use crate::error::Result;
use crate::proto::yandex::cloud::endpoint::api_endpoint_service_server::ApiEndpointService;
use crate::proto::yandex::cloud::endpoint::{
    ApiEndpoint, GetApiEndpointRequest, ListApiEndpointsRequest, ListApiEndpointsResponse,
};
use domain::Error;
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Endpoints(pub(super) App);

/// What clients look for: all of it is here. Some fail when one of these is missing.
const IDS: [&str; 8] =
    ["endpoint", "iam", "operation", "iot-devices", "iot-data", "iot-broker", "broker-data", "resource-manager"];

#[async_trait]
impl ApiEndpointService for Endpoints {
    async fn get(&self, request: Request<GetApiEndpointRequest>) -> Result<Response<ApiEndpoint>, Status> {
        self.0.answer_anybody(request, |visit, asked| async move { Ok(one(&visit, &asked.api_endpoint_id)?) }).await
    }

    async fn list(
        &self,
        request: Request<ListApiEndpointsRequest>,
    ) -> Result<Response<ListApiEndpointsResponse>, Status> {
        self.0.answer_anybody(request, |visit, _| async move { Ok(all(&visit)) }).await
    }
}

fn one(visit: &Visit, id: &str) -> domain::Result<ApiEndpoint> {
    let endpoint = all(visit).endpoints.into_iter().find(|endpoint| endpoint.id == id);
    endpoint.ok_or_else(|| Error::not_found(format!("there is no endpoint \"{id}\"; there are {}", IDS.join(", "))))
}

fn all(visit: &Visit) -> ListApiEndpointsResponse {
    // Never from the Host header: what a stranger wrote there would be where others send their tokens.
    let address = match &visit.listener {
        Some(listener) => listener.0.to_string(),
        None => visit.services.addresses.public_url.rsplit("//").next().unwrap_or_default().to_owned(),
    };
    let endpoints = IDS.map(|id| ApiEndpoint { id: id.into(), address: address.clone() });
    ListApiEndpointsResponse { endpoints: endpoints.into(), next_page_token: String::new() }
}
