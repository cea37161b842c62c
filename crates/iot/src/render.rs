//! From nouns to messages: what the wire shows of registries, devices, brokers, credentials and operations
//! (contract §3.1, §3.5, §4).

use crate::app::Call;
use crate::error::packed;
use crate::proto::yandex::cloud::iot::broker::v1 as broker_v1;
use crate::proto::yandex::cloud::iot::devices::v1 as devices_v1;
use crate::proto::yandex::cloud::operation::{self, Operation as OperationMessage};
use domain::Time;
use domain::registry::credential::{FingerprintFormat, RegisteredCertificate, RegisteredPassword};
use domain::registry::operation::{Operation, Outcome};
use domain::registry::{Broker, Device, LogDestination, LogOptions, Monitoring, Owner, Registry};
use prost_types::{Any, Timestamp};

/// A time on the wire.
pub fn timestamp(time: Time) -> Timestamp {
    let millis = time.millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// A registry.
pub fn registry(registry: Registry) -> devices_v1::Registry {
    use devices_v1::registry::Status;
    let status = if registry.is_disabled { Status::Disabled } else { Status::Active };
    devices_v1::Registry {
        id: registry.id.0,
        folder_id: registry.folder.id,
        created_at: Some(timestamp(registry.created_at)),
        name: registry.name,
        description: registry.description,
        labels: registry.labels.into_iter().collect(),
        status: status.into(),
        log_group_id: registry.log_group_id,
        log_options: log_options(registry.log_options),
    }
}

/// Where something is logged; nothing for an imported object that never said.
fn log_options(options: LogOptions) -> Option<devices_v1::LogOptions> {
    use devices_v1::log_options::Destination;
    (options != LogOptions::default()).then(|| devices_v1::LogOptions {
        disabled: options.is_disabled,
        min_level: options.min_level,
        destination: options.destination.map(|destination| match destination {
            LogDestination::LogGroup(id) => Destination::LogGroupId(id),
            LogDestination::Folder(id) => Destination::FolderId(id),
        }),
    })
}

/// A device. Its aliases are part of it; its monitoring only where that was asked for.
pub fn device(device: Device, monitoring: Option<Monitoring>) -> devices_v1::Device {
    devices_v1::Device {
        id: device.id.0,
        registry_id: device.registry.0,
        created_at: Some(timestamp(device.created_at)),
        name: device.name,
        description: device.description,
        topic_aliases: device.topic_aliases.into_iter().collect(),
        status: devices_v1::device::Status::Active.into(),
        monitoring_data: monitoring.map(monitoring_data),
        labels: device.labels.into_iter().collect(),
    }
}

fn monitoring_data(monitoring: Monitoring) -> devices_v1::DeviceMonitoringData {
    devices_v1::DeviceMonitoringData {
        last_auth_ip: monitoring.last_auth_ip.unwrap_or_default(),
        last_auth_time: monitoring.last_auth.map(timestamp),
        last_pub_activity_time: monitoring.last_pub_activity.map(timestamp),
        last_sub_activity_time: monitoring.last_sub_activity.map(timestamp),
        last_online_time: monitoring.last_online.map(timestamp),
        last_disconnect_time: monitoring.last_disconnect.map(timestamp),
    }
}

/// A broker.
pub fn broker(broker: Broker) -> broker_v1::Broker {
    use broker_v1::log_options::Destination;
    let options = Some(broker.log_options).filter(|options| *options != LogOptions::default());
    broker_v1::Broker {
        id: broker.id.0,
        folder_id: broker.folder.id,
        created_at: Some(timestamp(broker.created_at)),
        name: broker.name,
        description: broker.description,
        labels: broker.labels.into_iter().collect(),
        status: broker_v1::broker::Status::Active.into(),
        log_options: options.map(|options| broker_v1::LogOptions {
            disabled: options.is_disabled,
            min_level: options.min_level,
            destination: options.destination.map(|destination| match destination {
                LogDestination::LogGroup(id) => Destination::LogGroupId(id),
                LogDestination::Folder(id) => Destination::FolderId(id),
            }),
        }),
    }
}

/// Shows what depends on how the operator wants fingerprints shown.
#[derive(Clone, Copy)]
pub struct Shown(pub FingerprintFormat);

impl Shown {
    /// As the operator chose.
    pub(crate) fn of(call: &Call) -> Self {
        Self(call.services.registry_settings.fingerprint_format)
    }

    /// A certificate of a registry.
    pub fn registry_certificate(self, certificate: RegisteredCertificate) -> devices_v1::RegistryCertificate {
        devices_v1::RegistryCertificate {
            registry_id: certificate.owner.id().to_owned(),
            fingerprint: certificate.fingerprint.shown(self.0),
            created_at: Some(timestamp(certificate.created_at)),
            certificate_data: certificate.certificate_data,
        }
    }

    /// A certificate of a device.
    pub fn device_certificate(self, certificate: RegisteredCertificate) -> devices_v1::DeviceCertificate {
        devices_v1::DeviceCertificate {
            device_id: certificate.owner.id().to_owned(),
            fingerprint: certificate.fingerprint.shown(self.0),
            created_at: Some(timestamp(certificate.created_at)),
            certificate_data: certificate.certificate_data,
        }
    }

    /// A certificate of a broker.
    pub fn broker_certificate(self, certificate: RegisteredCertificate) -> broker_v1::BrokerCertificate {
        broker_v1::BrokerCertificate {
            broker_id: certificate.owner.id().to_owned(),
            fingerprint: certificate.fingerprint.shown(self.0),
            created_at: Some(timestamp(certificate.created_at)),
            certificate_data: certificate.certificate_data,
        }
    }

    /// An operation with its metadata and its response.
    pub fn operation(self, operation: Operation) -> OperationMessage {
        let description = operation.outcome.description();
        let (metadata, response) = self.outcome(operation.outcome);
        OperationMessage {
            id: operation.id.0,
            description,
            created_at: Some(timestamp(operation.created_at)),
            created_by: operation.created_by,
            modified_at: Some(timestamp(operation.modified_at)),
            done: true,
            metadata: Some(metadata),
            result: Some(operation::operation::Result::Response(response)),
        }
    }

    fn outcome(self, outcome: Outcome) -> (Any, Any) {
        use devices_v1 as v1;
        match outcome {
            Outcome::CreateRegistry(made) => {
                (packed(&v1::CreateRegistryMetadata { registry_id: made.id.0.clone() }), packed(&registry(made)))
            }
            Outcome::UpdateRegistry(changed) => {
                (packed(&v1::UpdateRegistryMetadata { registry_id: changed.id.0.clone() }), packed(&registry(changed)))
            }
            Outcome::DisableRegistry(changed) => {
                (packed(&v1::DisableRegistryMetadata { registry_id: changed.id.0.clone() }), packed(&registry(changed)))
            }
            Outcome::EnableRegistry(changed) => {
                (packed(&v1::EnableRegistryMetadata { registry_id: changed.id.0.clone() }), packed(&registry(changed)))
            }
            Outcome::DeleteRegistry(id) => (packed(&v1::DeleteRegistryMetadata { registry_id: id.0 }), empty()),
            Outcome::CreateDevice(made) | Outcome::ProvisionDevice { device: made, .. } => {
                (packed(&v1::CreateDeviceMetadata { device_id: made.id.0.clone() }), packed(&device(made, None)))
            }
            Outcome::UpdateDevice(changed) => {
                (packed(&v1::UpdateDeviceMetadata { device_id: changed.id.0.clone() }), packed(&device(changed, None)))
            }
            Outcome::DeleteDevice(id) => (packed(&v1::DeleteDeviceMetadata { device_id: id.0 }), empty()),
            Outcome::CreateBroker(made) => {
                (packed(&broker_v1::CreateBrokerMetadata { broker_id: made.id.0.clone() }), packed(&broker(made)))
            }
            Outcome::UpdateBroker(changed) => {
                (packed(&broker_v1::UpdateBrokerMetadata { broker_id: changed.id.0.clone() }), packed(&broker(changed)))
            }
            Outcome::DeleteBroker(id) => (packed(&broker_v1::DeleteBrokerMetadata { broker_id: id.0 }), empty()),
            Outcome::AddCertificate(certificate) => self.added_certificate(*certificate),
            Outcome::DeleteCertificate { owner, fingerprint } => (deleted_certificate(owner, fingerprint), empty()),
            Outcome::AddPassword(password) => added_password(password),
            Outcome::DeletePassword { owner, password } => (deleted_password(owner, password.0), empty()),
        }
    }

    fn added_certificate(self, certificate: RegisteredCertificate) -> (Any, Any) {
        let fingerprint = certificate.fingerprint.shown(self.0);
        match certificate.owner.clone() {
            Owner::Registry(id) => (
                packed(&devices_v1::AddRegistryCertificateMetadata { registry_id: id.0, fingerprint }),
                packed(&self.registry_certificate(certificate)),
            ),
            Owner::Device(id) => (
                packed(&devices_v1::AddDeviceCertificateMetadata { device_id: id.0, fingerprint }),
                packed(&self.device_certificate(certificate)),
            ),
            Owner::Broker(id) => (
                packed(&broker_v1::AddBrokerCertificateMetadata { broker_id: id.0, fingerprint }),
                packed(&self.broker_certificate(certificate)),
            ),
        }
    }
}

fn deleted_certificate(owner: Owner, fingerprint: String) -> Any {
    match owner {
        Owner::Registry(id) => {
            packed(&devices_v1::DeleteRegistryCertificateMetadata { registry_id: id.0, fingerprint })
        }
        Owner::Device(id) => packed(&devices_v1::DeleteDeviceCertificateMetadata { device_id: id.0, fingerprint }),
        Owner::Broker(id) => packed(&broker_v1::DeleteBrokerCertificateMetadata { broker_id: id.0, fingerprint }),
    }
}

fn added_password(password: RegisteredPassword) -> (Any, Any) {
    let password_id = password.id.0.clone();
    match password.owner.clone() {
        Owner::Registry(id) => (
            packed(&devices_v1::AddRegistryPasswordMetadata { registry_id: id.0, password_id }),
            packed(&registry_password(password)),
        ),
        Owner::Device(id) => (
            packed(&devices_v1::AddDevicePasswordMetadata { device_id: id.0, password_id }),
            packed(&device_password(password)),
        ),
        Owner::Broker(id) => (
            packed(&broker_v1::AddBrokerPasswordMetadata { broker_id: id.0, password_id }),
            packed(&broker_password(password)),
        ),
    }
}

fn deleted_password(owner: Owner, password_id: String) -> Any {
    match owner {
        Owner::Registry(id) => packed(&devices_v1::DeleteRegistryPasswordMetadata { registry_id: id.0, password_id }),
        Owner::Device(id) => packed(&devices_v1::DeleteDevicePasswordMetadata { device_id: id.0, password_id }),
        Owner::Broker(id) => packed(&broker_v1::DeleteBrokerPasswordMetadata { broker_id: id.0, password_id }),
    }
}

/// A password of a registry, without what it is.
pub fn registry_password(password: RegisteredPassword) -> devices_v1::RegistryPassword {
    devices_v1::RegistryPassword {
        registry_id: password.owner.id().to_owned(),
        created_at: Some(timestamp(password.created_at)),
        id: password.id.0,
    }
}

/// A password of a device, without what it is.
pub fn device_password(password: RegisteredPassword) -> devices_v1::DevicePassword {
    devices_v1::DevicePassword {
        device_id: password.owner.id().to_owned(),
        created_at: Some(timestamp(password.created_at)),
        id: password.id.0,
    }
}

/// A password of a broker, without what it is.
pub fn broker_password(password: RegisteredPassword) -> broker_v1::BrokerPassword {
    broker_v1::BrokerPassword {
        broker_id: password.owner.id().to_owned(),
        created_at: Some(timestamp(password.created_at)),
        id: password.id.0,
    }
}

fn empty() -> Any {
    packed(&())
}
