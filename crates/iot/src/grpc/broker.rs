//! `yandex.cloud.iot.broker.v1.BrokerService` (contract §3.5).

use super::read::{PAGE_SIZE_MAX, broker_log_options, log_options_change, page};
use crate::app::App;
use crate::check::{Checks, LOG_OPTIONS};
use crate::proto::yandex::cloud::iot::broker::v1::broker_service_server::BrokerService;
use crate::proto::yandex::cloud::iot::broker::v1::*;
use crate::proto::yandex::cloud::operation::Operation;
use crate::render::{Shown, broker, broker_password};
use domain::registry::{BrokerId, Owner, PasswordId};
use services::registry::{BrokerChange, NewBroker, NewCredentials};
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Brokers(pub(super) App);

fn owner(id: &str) -> Owner {
    Owner::Broker(BrokerId::from(id))
}

#[async_trait]
impl BrokerService for Brokers {
    async fn get(&self, request: Request<GetBrokerRequest>) -> Result<Response<Broker>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("broker_id", &asked.broker_id);
            checks.finish()?;
            Ok(broker(call.services.broker(&call.caller, &asked.broker_id).await?))
        });
        answer.await
    }

    async fn list(&self, request: Request<ListBrokersRequest>) -> Result<Response<ListBrokersResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("folder_id", &asked.folder_id);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let found = call.services.brokers(&call.caller, &asked.folder_id, &page).await?;
            let brokers = found.items.into_iter().map(broker).collect();
            Ok(ListBrokersResponse { brokers, next_page_token: found.next })
        });
        answer.await
    }

    async fn create(&self, request: Request<CreateBrokerRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/Create", &message);
            let mut checks = Checks::new();
            checks.id("folder_id", &message.folder_id);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            if !message.password.is_empty() {
                checks.password("password", &message.password);
            }
            let log_options = broker_log_options(&mut checks, message.log_options);
            checks.finish()?;
            let new = NewBroker {
                folder: message.folder_id,
                name: message.name,
                description: message.description,
                labels: message.labels,
                log_options,
                credentials: NewCredentials {
                    certificates: message.certificates.into_iter().map(|given| given.certificate_data).collect(),
                    password: message.password,
                },
            };
            Ok(Shown::of(&call).operation(call.services.create_broker(&asked, new).await?))
        });
        answer.await
    }

    async fn update(&self, request: Request<UpdateBrokerRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/Update", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            let allowed = [&["name", "description", "labels"][..], &LOG_OPTIONS].concat();
            let mask = checks.mask("update_mask", message.update_mask, &allowed);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            let log_options = broker_log_options(&mut checks, message.log_options);
            checks.finish()?;
            let change = BrokerChange {
                name: mask.covers("name").then_some(message.name),
                description: mask.covers("description").then_some(message.description),
                labels: mask.covers("labels").then_some(message.labels),
                log_options: log_options_change(&mask, log_options),
            };
            let done = call.services.update_broker(&asked, &message.broker_id, change).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete(&self, request: Request<DeleteBrokerRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/Delete", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            checks.finish()?;
            let done = call.services.delete_broker(&asked, &message.broker_id).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_certificates(
        &self,
        request: Request<ListBrokerCertificatesRequest>,
    ) -> Result<Response<ListBrokerCertificatesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("broker_id", &asked.broker_id);
            checks.finish()?;
            let shown = Shown::of(&call);
            let found = call.services.registered_certificates(&call.caller, &owner(&asked.broker_id)).await?;
            let certificates = found.into_iter().map(|found| shown.broker_certificate(found)).collect();
            Ok(ListBrokerCertificatesResponse { certificates })
        });
        answer.await
    }

    async fn add_certificate(
        &self,
        request: Request<AddBrokerCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/AddCertificate", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            checks.finish()?;
            let owner = owner(&message.broker_id);
            let done = call.services.register_certificate(&asked, &owner, &message.certificate_data).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_certificate(
        &self,
        request: Request<DeleteBrokerCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/DeleteCertificate", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            checks.fingerprint("fingerprint", &message.fingerprint);
            checks.finish()?;
            let owner = owner(&message.broker_id);
            let done = call.services.unregister_certificate(&asked, &owner, &message.fingerprint).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_passwords(
        &self,
        request: Request<ListBrokerPasswordsRequest>,
    ) -> Result<Response<ListBrokerPasswordsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("broker_id", &asked.broker_id);
            checks.finish()?;
            let found = call.services.registered_passwords(&call.caller, &owner(&asked.broker_id)).await?;
            Ok(ListBrokerPasswordsResponse { passwords: found.into_iter().map(broker_password).collect() })
        });
        answer.await
    }

    async fn add_password(&self, request: Request<AddBrokerPasswordRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/AddPassword", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            checks.password("password", &message.password);
            checks.finish()?;
            let done = call.services.add_password(&asked, &owner(&message.broker_id), &message.password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_password(
        &self,
        request: Request<DeleteBrokerPasswordRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("BrokerService/DeletePassword", &message);
            let mut checks = Checks::new();
            checks.id("broker_id", &message.broker_id);
            checks.id("password_id", &message.password_id);
            checks.finish()?;
            let password = PasswordId::from(message.password_id.as_str());
            let done = call.services.delete_password(&asked, &owner(&message.broker_id), &password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_operations(
        &self,
        request: Request<ListBrokerOperationsRequest>,
    ) -> Result<Response<ListBrokerOperationsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.required("broker_id", &asked.broker_id, 50);
            let name = checks.filter("filter", &asked.filter);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let shown = Shown::of(&call);
            let owner = owner(&asked.broker_id);
            let found = call.services.registry_operations(&call.caller, &owner, name.as_deref(), &page).await?;
            let operations = found.items.into_iter().map(|found| shown.operation(found)).collect();
            Ok(ListBrokerOperationsResponse { operations, next_page_token: found.next })
        });
        answer.await
    }
}
