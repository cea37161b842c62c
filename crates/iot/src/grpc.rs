//! Every gRPC service of this edge. Each is reached as it is, and by REST through [`crate::rest`].

mod broker;
mod data;
mod device;
mod endpoint;
mod iam;
mod operation;
mod read;
mod registry;

use crate::app::App;
use crate::proto::DESCRIPTORS;
use crate::proto::yandex::cloud::endpoint::api_endpoint_service_server::ApiEndpointServiceServer;
use crate::proto::yandex::cloud::iam::v1::iam_token_service_server::IamTokenServiceServer;
use crate::proto::yandex::cloud::iot::broker::v1::broker_data_service_server::BrokerDataServiceServer;
use crate::proto::yandex::cloud::iot::broker::v1::broker_service_server::BrokerServiceServer;
use crate::proto::yandex::cloud::iot::devices::v1::device_data_service_server::DeviceDataServiceServer;
use crate::proto::yandex::cloud::iot::devices::v1::device_service_server::DeviceServiceServer;
use crate::proto::yandex::cloud::iot::devices::v1::registry_data_service_server::RegistryDataServiceServer;
use crate::proto::yandex::cloud::iot::devices::v1::registry_service_server::RegistryServiceServer;
use crate::proto::yandex::cloud::operation::operation_service_server::OperationServiceServer;
use axum::Router;
use axum::response::IntoResponse;
use std::convert::Infallible;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tower::Service;

/// All services as one router; what it does not know is UNIMPLEMENTED.
pub(crate) async fn router(app: &App) -> Router {
    let mut services = Services::new();
    services.add(ApiEndpointServiceServer::new(endpoint::Endpoints(app.clone()))).await;
    services.add(IamTokenServiceServer::new(iam::IamTokens(app.clone()))).await;
    services.add(RegistryServiceServer::new(registry::Registries(app.clone()))).await;
    services.add(DeviceServiceServer::new(device::Devices(app.clone()))).await;
    services.add(BrokerServiceServer::new(broker::Brokers(app.clone()))).await;
    services.add(RegistryDataServiceServer::new(data::Data(app.clone()))).await;
    services.add(DeviceDataServiceServer::new(data::Data(app.clone()))).await;
    services.add(BrokerDataServiceServer::new(data::Data(app.clone()))).await;
    services.add(OperationServiceServer::new(operation::Operations(app.clone()))).await;
    services.finish()
}

struct Services {
    routes: Routes,
    health: HealthReporter,
    names: Vec<&'static str>,
}

impl Services {
    fn new() -> Self {
        let (health, service) = health_reporter();
        Self { routes: Routes::new(service), health, names: vec!["grpc.health.v1.Health"] }
    }

    async fn add<S>(&mut self, service: S)
    where
        S: Service<axum::http::Request<tonic::body::Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.health.set_service_status(S::NAME, ServingStatus::Serving).await;
        self.names.push(S::NAME);
        self.routes = std::mem::take(&mut self.routes).add_service(service);
    }

    /// Adds what tells tools which services there are, in both versions that tools ask for.
    fn finish(self) -> Router {
        let builder = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            self.names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let v1 = builder().build_v1().expect("proto/ was compiled, so its descriptors are whole");
        let v1alpha = builder().build_v1alpha().expect("proto/ was compiled, so its descriptors are whole");
        self.routes.add_service(v1).add_service(v1alpha).into_axum_router()
    }
}
