//! `yandex.cloud.iot.devices.v1.DeviceService` (contract §3.3).

use super::read::{PAGE_SIZE_MAX, page};
use crate::app::App;
use crate::check::Checks;
use crate::proto::yandex::cloud::iot::devices::v1::device_service_server::DeviceService;
use crate::proto::yandex::cloud::iot::devices::v1::list_devices_request::Id;
use crate::proto::yandex::cloud::iot::devices::v1::*;
use crate::proto::yandex::cloud::operation::Operation;
use crate::render::{Shown, device, device_password};
use domain::registry::{DeviceId, Owner, PasswordId};
use services::registry::{DeviceChange, DevicesOf, NewCredentials, NewDevice, SeenDevice};
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Devices(pub(super) App);

/// The greatest page of devices (contract §2.4).
const DEVICES_PAGE_SIZE_MAX: u32 = 20_000;

fn owner(id: &str) -> Owner {
    Owner::Device(DeviceId::from(id))
}

/// How much of a device is shown.
fn view(checks: &mut Checks, number: i32) -> DeviceView {
    DeviceView::try_from(number).unwrap_or_else(|_| {
        checks.wrong("device_view", "enum", "must be BASIC or FULL");
        DeviceView::Basic
    })
}

fn seen((found, monitoring): SeenDevice, view: DeviceView) -> Device {
    match view {
        DeviceView::Basic => device(found, None),
        DeviceView::Full => device(found, Some(monitoring)),
    }
}

#[async_trait]
impl DeviceService for Devices {
    async fn get(&self, request: Request<GetDeviceRequest>) -> Result<Response<Device>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("device_id", &asked.device_id);
            let view = view(&mut checks, asked.device_view);
            checks.finish()?;
            Ok(seen(call.services.device(&call.caller, &asked.device_id).await?, view))
        });
        answer.await
    }

    async fn get_by_name(&self, request: Request<GetByNameDeviceRequest>) -> Result<Response<Device>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("registry_id", &asked.registry_id);
            checks.required_name("device_name", &asked.device_name);
            let view = view(&mut checks, asked.device_view);
            checks.finish()?;
            let found = call.services.device_named(&call.caller, &asked.registry_id, &asked.device_name);
            Ok(seen(found.await?, view))
        });
        answer.await
    }

    async fn list(&self, request: Request<ListDevicesRequest>) -> Result<Response<ListDevicesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            let of = match asked.id {
                Some(Id::RegistryId(id)) => {
                    checks.id("registry_id", &id);
                    DevicesOf::Registry(id)
                }
                Some(Id::FolderId(id)) => {
                    checks.id("folder_id", &id);
                    DevicesOf::Folder(id)
                }
                None => {
                    checks.wrong("registry_id", "required", "or folder_id is required");
                    DevicesOf::Registry(String::new())
                }
            };
            let page = page(&mut checks, asked.page_size, asked.page_token, DEVICES_PAGE_SIZE_MAX);
            let view = view(&mut checks, asked.device_view);
            checks.finish()?;
            let found = call.services.devices(&call.caller, &of, &page).await?;
            let devices = found.items.into_iter().map(|found| seen(found, view)).collect();
            Ok(ListDevicesResponse { devices, next_page_token: found.next })
        });
        answer.await
    }

    async fn create(&self, request: Request<CreateDeviceRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/Create", &message);
            let mut checks = Checks::new();
            checks.id("registry_id", &message.registry_id);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            if !message.password.is_empty() {
                checks.password("password", &message.password);
            }
            checks.finish()?;
            let new = NewDevice {
                registry: message.registry_id,
                name: message.name,
                description: message.description,
                labels: message.labels,
                topic_aliases: message.topic_aliases,
                credentials: NewCredentials {
                    certificates: message.certificates.into_iter().map(|given| given.certificate_data).collect(),
                    password: message.password,
                },
            };
            Ok(Shown::of(&call).operation(call.services.create_device(&asked, new).await?))
        });
        answer.await
    }

    async fn update(&self, request: Request<UpdateDeviceRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/Update", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            let allowed = ["name", "description", "topic_aliases", "labels"];
            let mask = checks.mask("update_mask", message.update_mask, &allowed);
            checks.name("name", &message.name);
            checks.description("description", &message.description);
            checks.labels("labels", &message.labels);
            checks.finish()?;
            let change = DeviceChange {
                name: mask.covers("name").then_some(message.name),
                description: mask.covers("description").then_some(message.description),
                labels: mask.covers("labels").then_some(message.labels),
                topic_aliases: mask.covers("topic_aliases").then_some(message.topic_aliases),
            };
            let done = call.services.update_device(&asked, &message.device_id, change).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete(&self, request: Request<DeleteDeviceRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/Delete", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            checks.finish()?;
            let done = call.services.delete_device(&asked, &message.device_id).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_certificates(
        &self,
        request: Request<ListDeviceCertificatesRequest>,
    ) -> Result<Response<ListDeviceCertificatesResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("device_id", &asked.device_id);
            checks.finish()?;
            let shown = Shown::of(&call);
            let found = call.services.registered_certificates(&call.caller, &owner(&asked.device_id)).await?;
            let certificates = found.into_iter().map(|found| shown.device_certificate(found)).collect();
            Ok(ListDeviceCertificatesResponse { certificates })
        });
        answer.await
    }

    async fn add_certificate(
        &self,
        request: Request<AddDeviceCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/AddCertificate", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            checks.finish()?;
            let owner = owner(&message.device_id);
            let done = call.services.register_certificate(&asked, &owner, &message.certificate_data).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_certificate(
        &self,
        request: Request<DeleteDeviceCertificateRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/DeleteCertificate", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            checks.fingerprint("fingerprint", &message.fingerprint);
            checks.finish()?;
            let owner = owner(&message.device_id);
            let done = call.services.unregister_certificate(&asked, &owner, &message.fingerprint).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_passwords(
        &self,
        request: Request<ListDevicePasswordsRequest>,
    ) -> Result<Response<ListDevicePasswordsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.id("device_id", &asked.device_id);
            checks.finish()?;
            let found = call.services.registered_passwords(&call.caller, &owner(&asked.device_id)).await?;
            Ok(ListDevicePasswordsResponse { passwords: found.into_iter().map(device_password).collect() })
        });
        answer.await
    }

    async fn add_password(&self, request: Request<AddDevicePasswordRequest>) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/AddPassword", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            checks.password("password", &message.password);
            checks.finish()?;
            let done = call.services.add_password(&asked, &owner(&message.device_id), &message.password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn delete_password(
        &self,
        request: Request<DeleteDevicePasswordRequest>,
    ) -> Result<Response<Operation>, Status> {
        let answer = self.0.answer(request, |call, message| async move {
            let asked = call.asked("DeviceService/DeletePassword", &message);
            let mut checks = Checks::new();
            checks.id("device_id", &message.device_id);
            checks.id("password_id", &message.password_id);
            checks.finish()?;
            let password = PasswordId::from(message.password_id.as_str());
            let done = call.services.delete_password(&asked, &owner(&message.device_id), &password).await?;
            Ok(Shown::of(&call).operation(done))
        });
        answer.await
    }

    async fn list_operations(
        &self,
        request: Request<ListDeviceOperationsRequest>,
    ) -> Result<Response<ListDeviceOperationsResponse>, Status> {
        let answer = self.0.answer(request, |call, asked| async move {
            let mut checks = Checks::new();
            checks.required("device_id", &asked.device_id, 50);
            let name = checks.filter("filter", &asked.filter);
            let page = page(&mut checks, asked.page_size, asked.page_token, PAGE_SIZE_MAX);
            checks.finish()?;
            let shown = Shown::of(&call);
            let owner = owner(&asked.device_id);
            let found = call.services.registry_operations(&call.caller, &owner, name.as_deref(), &page).await?;
            let operations = found.items.into_iter().map(|found| shown.operation(found)).collect();
            Ok(ListDeviceOperationsResponse { operations, next_page_token: found.next })
        });
        answer.await
    }
}
