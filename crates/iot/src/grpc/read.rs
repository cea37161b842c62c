//! From messages to nouns: what several services read alike.

use crate::app::Call;
use crate::check::{Checks, Mask};
use crate::proto::yandex::cloud::iot::broker::v1 as broker_v1;
use crate::proto::yandex::cloud::iot::devices::v1 as devices_v1;
use crate::proto::yandex::cloud::logging::v1::log_level::Level;
use domain::registry::{LogDestination, LogOptions, LogOptionsChange};
use prost::Message;
use services::registry::{Asked, PageRequest, Repeat};

/// The greatest page of most lists (contract §2.4).
pub(super) const PAGE_SIZE_MAX: u32 = 1000;

impl Call {
    /// Who asks for a change with this message, and how a repetition of it is recognised.
    pub(super) fn asked<M: Message>(&self, method: &str, message: &M) -> Asked<'_> {
        let repeat =
            self.idempotency_key.as_deref().map(|key| Repeat::new(&self.caller, method, key, &message.encode_to_vec()));
        Asked { caller: &self.caller, repeat }
    }
}

/// Which page is asked for.
pub(super) fn page(checks: &mut Checks, size: i64, token: String, size_max: u32) -> PageRequest {
    checks.page_token("page_token", &token);
    PageRequest { size: checks.page_size("page_size", size, size_max), token }
}

/// Log options of a registry.
pub(crate) fn log_options(checks: &mut Checks, options: Option<devices_v1::LogOptions>) -> LogOptions {
    use devices_v1::log_options::Destination;
    let Some(options) = options else { return LogOptions::default() };
    let destination = options.destination.map(|destination| match destination {
        Destination::LogGroupId(id) => LogDestination::LogGroup(id),
        Destination::FolderId(id) => LogDestination::Folder(id),
    });
    checked(checks, options.disabled, destination, options.min_level)
}

/// Log options of a broker.
pub(crate) fn broker_log_options(checks: &mut Checks, options: Option<broker_v1::LogOptions>) -> LogOptions {
    use broker_v1::log_options::Destination;
    let Some(options) = options else { return LogOptions::default() };
    let destination = options.destination.map(|destination| match destination {
        Destination::LogGroupId(id) => LogDestination::LogGroup(id),
        Destination::FolderId(id) => LogDestination::Folder(id),
    });
    checked(checks, options.disabled, destination, options.min_level)
}

fn checked(checks: &mut Checks, is_disabled: bool, destination: Option<LogDestination>, min_level: i32) -> LogOptions {
    match &destination {
        Some(LogDestination::LogGroup(id)) => checks.log_id("log_options.log_group_id", id),
        Some(LogDestination::Folder(id)) => checks.log_id("log_options.folder_id", id),
        None => {}
    }
    if Level::try_from(min_level).is_err() {
        checks.wrong("log_options.min_level", "enum", "is not a level");
    }
    // An empty name is none.
    let destination = destination.filter(|destination| match destination {
        LogDestination::LogGroup(id) | LogDestination::Folder(id) => !id.is_empty(),
    });
    LogOptions { is_disabled, destination, min_level }
}

/// What an update changes of log options: all of them, or what its mask names.
pub(super) fn log_options_change(mask: &Mask, options: LogOptions) -> LogOptionsChange {
    let covers_destination = mask.covers("log_options.log_group_id") || mask.covers("log_options.folder_id");
    LogOptionsChange {
        is_disabled: mask.covers("log_options.disabled").then_some(options.is_disabled),
        destination: covers_destination.then_some(options.destination),
        min_level: mask.covers("log_options.min_level").then_some(options.min_level),
    }
}
