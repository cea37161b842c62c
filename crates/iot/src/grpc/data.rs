//! The data services: publishing with the rights of a registry, a device or a broker (contract §3.4, §3.5).

use crate::app::{App, Call};
use crate::check::Checks;
use crate::error::Result;
use crate::proto::yandex::cloud::iot::broker::v1::broker_data_service_server::BrokerDataService;
use crate::proto::yandex::cloud::iot::broker::v1::{PublishBrokerDataRequest, PublishBrokerDataResponse};
use crate::proto::yandex::cloud::iot::devices::v1::device_data_service_server::DeviceDataService;
use crate::proto::yandex::cloud::iot::devices::v1::registry_data_service_server::RegistryDataService;
use crate::proto::yandex::cloud::iot::devices::v1::{
    PublishDeviceDataRequest, PublishDeviceDataResponse, PublishRegistryDataRequest, PublishRegistryDataResponse,
};
use domain::registry::{BrokerId, DeviceId, Owner, RegistryId};
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Data(pub(super) App);

async fn publish(call: Call, field: &str, owner: Owner, topic: &str, data: Vec<u8>) -> Result<()> {
    let mut checks = Checks::new();
    checks.id(field, owner.id());
    checks.topic("topic", topic);
    checks.payload("data", &data);
    checks.finish()?;
    Ok(call.services.publish_as(&call.caller, &owner, topic, data.into()).await?)
}

#[async_trait]
impl RegistryDataService for Data {
    async fn publish(
        &self,
        request: Request<PublishRegistryDataRequest>,
    ) -> Result<Response<PublishRegistryDataResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let owner = Owner::Registry(RegistryId(asked.registry_id));
            publish(call, "registry_id", owner, &asked.topic, asked.data).await?;
            Ok(PublishRegistryDataResponse {})
        });
        answer.await
    }
}

#[async_trait]
impl DeviceDataService for Data {
    async fn publish(
        &self,
        request: Request<PublishDeviceDataRequest>,
    ) -> Result<Response<PublishDeviceDataResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let owner = Owner::Device(DeviceId(asked.device_id));
            publish(call, "device_id", owner, &asked.topic, asked.data).await?;
            Ok(PublishDeviceDataResponse {})
        });
        answer.await
    }
}

#[async_trait]
impl BrokerDataService for Data {
    async fn publish(
        &self,
        request: Request<PublishBrokerDataRequest>,
    ) -> Result<Response<PublishBrokerDataResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let owner = Owner::Broker(BrokerId(asked.broker_id));
            publish(call, "broker_id", owner, &asked.topic, asked.data).await?;
            Ok(PublishBrokerDataResponse {})
        });
        answer.await
    }
}
