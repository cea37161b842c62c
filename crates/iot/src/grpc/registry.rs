//! `yandex.cloud.iot.devices.v1.RegistryService` (contract §3.2).

use super::read::{PAGE_SIZE_MAX, log_options, log_options_change, page};
use crate::app::App;
use crate::check::{Checks, LOG_OPTIONS};
use crate::error::Error;
use crate::proto::yandex::cloud::iot::devices::v1::registry_service_server::RegistryService;
use crate::proto::yandex::cloud::iot::devices::v1::*;
use crate::proto::yandex::cloud::operation::Operation;
use crate::render::{Shown, registry, registry_password};
use domain::registry::{Owner, PasswordId, RegistryId};
use services::registry::{NewCredentials, NewRegistry, RegistryChange};
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Registries(pub(super) App);

/// Exports into data streams are another product's (contract §7).
const NO_EXPORTS: Error = Error::Unsupported("exports into data streams are not served; subscribe over MQTT instead");

fn owner(id: &str) -> Owner {
    Owner::Registry(RegistryId::from(id))
}

#[async_trait]
impl RegistryService for Registries {
    async fn get(&self, request: Request<GetRegistryRequest>) -> Result<Response<Registry>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            checks.finish()?;
            Ok(registry(call.services.registry(&call.caller, &asked.registry_id).await?))
        });
        answer.await
    }

    async fn get_by_name(&self, request: Request<GetByNameRegistryRequest>) -> Result<Response<Registry>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("folder_id", &asked.folder_id);
            checks.required_name("registry_name", &asked.registry_name);
            checks.finish()?;
            let found = call.services.registry_named(&call.caller, &asked.folder_id, &asked.registry_name);
            Ok(registry(found.await?))
        });
        answer.await
    }

    async fn list(&self, request: Request<ListRegistriesRequest>) -> Result<Response<ListRegistriesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("folder_id", &asked.folder_id);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let found = call.services.registries(&call.caller, &asked.folder_id, &page).await?;
            let registries = found.items.into_iter().map(registry).collect();
            Ok(ListRegistriesResponse { registries, next_page_token: found.next })
        });
        answer.await
    }

    async fn create(&self, request: Request<CreateRegistryRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/Create", &message);
            let mut checks = Checks::new();
            checks.id("folder_id", &message.folder_id);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            if !message.password.is_empty() {
                checks.password("password", &message.password);
            }
            let log_options = log_options(&mut checks, message.log_options);
            checks.finish()?;
            let new = NewRegistry {
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
            Ok(Shown::of(&call).operation(call.services.create_registry(&asked, new).await?))
        });
        answer.await
    }

    async fn update(&self, request: Request<UpdateRegistryRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/Update", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            let allowed = [&["name", "description", "labels"][..], &LOG_OPTIONS].concat();
            let mask = checks.mask("update_mask", message.update_mask, &allowed);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            let log_options = log_options(&mut checks, message.log_options);
            checks.finish()?;
            let change = RegistryChange {
                name: mask.covers("name").then_some(message.name),
                description: mask.covers("description").then_some(message.description),
                labels: mask.covers("labels").then_some(message.labels),
                log_options: log_options_change(&mask, log_options),
            };
            let done = call.services.update_registry(&asked, &message.registry_id, change).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete(&self, request: Request<DeleteRegistryRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/Delete", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.finish()?;
            let done = call.services.delete_registry(&asked, &message.registry_id).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn disable(&self, request: Request<DisableRegistryRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/Disable", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.finish()?;
            let done = call.services.disable_registry(&asked, &message.registry_id).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn enable(&self, request: Request<EnableRegistryRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/Enable", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.finish()?;
            let done = call.services.enable_registry(&asked, &message.registry_id).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_certificates(
        &self,
        request: Request<ListRegistryCertificatesRequest>,
    ) -> Result<Response<ListRegistryCertificatesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            checks.finish()?;
            let shown = Shown::of(&call);
            let found = call.services.registered_certificates(&call.caller, &owner(&asked.registry_id)).await?;
            let certificates = found.into_iter().map(|found| shown.registry_certificate(found)).collect();
            Ok(ListRegistryCertificatesResponse { certificates })
        });
        answer.await
    }

    async fn add_certificate(
        &self,
        request: Request<AddRegistryCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/AddCertificate", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.finish()?;
            let owner = owner(&message.registry_id);
            let done = call.services.register_certificate(&asked, &owner, &message.certificate_data).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_certificate(
        &self,
        request: Request<DeleteRegistryCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/DeleteCertificate", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.fingerprint("fingerprint", &message.fingerprint);
            checks.finish()?;
            let owner = owner(&message.registry_id);
            let done = call.services.unregister_certificate(&asked, &owner, &message.fingerprint).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_passwords(
        &self,
        request: Request<ListRegistryPasswordsRequest>,
    ) -> Result<Response<ListRegistryPasswordsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            checks.finish()?;
            let found = call.services.registered_passwords(&call.caller, &owner(&asked.registry_id)).await?;
            Ok(ListRegistryPasswordsResponse { passwords: found.into_iter().map(registry_password).collect() })
        });
        answer.await
    }

    async fn add_password(&self, request: Request<AddRegistryPasswordRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/AddPassword", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.password("password", &message.password);
            checks.finish()?;
            let done = call.services.add_password(&asked, &owner(&message.registry_id), &message.password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_password(
        &self,
        request: Request<DeleteRegistryPasswordRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("RegistryService/DeletePassword", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.id("password_id", &message.password_id);
            checks.finish()?;
            let password = PasswordId::from(message.password_id.as_str());
            let done = call.services.delete_password(&asked, &owner(&message.registry_id), &password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_device_topic_aliases(
        &self,
        request: Request<ListDeviceTopicAliasesRequest>,
    ) -> Result<Response<ListDeviceTopicAliasesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let found = call.services.topic_aliases(&call.caller, &asked.registry_id, &page).await?;
            let aliases = found.items.into_iter();
            let aliases = aliases
                .map(|(device, topic_prefix, alias)| DeviceAlias { device_id: device.0, topic_prefix, alias })
                .collect();
            Ok(ListDeviceTopicAliasesResponse { aliases, next_page_token: found.next })
        });
        answer.await
    }

    async fn list_operations(
        &self,
        request: Request<ListRegistryOperationsRequest>,
    ) -> Result<Response<ListRegistryOperationsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.required("registry_id", &asked.registry_id, 50);
            let name = checks.filter("filter", &asked.filter);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let shown = Shown::of(&call);
            let owner = owner(&asked.registry_id);
            let found = call.services.registry_operations(&call.caller, &owner, name.as_deref(), &page).await?;
            let operations = found.items.into_iter().map(|found| shown.operation(found)).collect();
            Ok(ListRegistryOperationsResponse { operations, next_page_token: found.next })
        });
        answer.await
    }

    async fn list_data_stream_exports(
        &self,
        request: Request<ListDataStreamExportsRequest>,
    ) -> Result<Response<ListDataStreamExportsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            checks.finish()?;
            call.services.registry(&call.caller, &asked.registry_id).await?;
            Ok(ListDataStreamExportsResponse { data_stream_exports: Vec::new() })
        });
        answer.await
    }

    async fn add_data_stream_export(
        &self,
        request: Request<AddDataStreamExportRequest>,
    ) -> Result<Response<Operation>, Status> {
        self.0.answer(request, |_, _| async { Err(NO_EXPORTS) }).await
    }

    async fn delete_data_stream_export(
        &self,
        request: Request<DeleteDataStreamExportRequest>,
    ) -> Result<Response<Operation>, Status> {
        self.0.answer(request, |_, _| async { Err(NO_EXPORTS) }).await
    }
}
