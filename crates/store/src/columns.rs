//! How nouns become column values: ids in 16 octets, times in milliseconds, documents as JSON text.

use crate::error::StoreError;
use crate::value::{Row, Value};
use domain::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A list of parameters of mixed types.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Value::from($value)),*] };
}

macro_rules! id_values {
    ($($name:ident),*) => {$(
        impl From<domain::$name> for Value {
            fn from(id: domain::$name) -> Self {
                Value::from(id.0)
            }
        }
    )*};
}

id_values!(
    OrganizationId,
    ProjectId,
    IdentityId,
    UniversalAuthId,
    ClientSecretId,
    AccessTokenId,
    MembershipId,
    RoleId,
    AuthorityId,
    AuthorityKeyId,
    AuthorityCertificateId,
    CrlId,
    PolicyId,
    ProfileId,
    ApplicationId,
    AttachmentId,
    CertificateId,
    CertificateRequestId,
    ConnectionId,
    ForeignListId,
    SyncId,
    SyncLinkId,
    TemplateId,
    SubscriberId,
    CollectionId,
    CollectionItemId,
    JobId,
    AlertId,
    AlertChannelId,
    AlertRunId,
    AlertDeliveryId
);

impl From<Time> for Value {
    fn from(time: Time) -> Self {
        Value::Int(time.millis())
    }
}

/// A document as JSON text.
pub(crate) fn document(value: &impl Serialize) -> Value {
    Value::from(serde_json::to_string(value).expect("our documents have text keys and finite numbers"))
}

/// A document read back.
pub(crate) fn parse_document<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, StoreError> {
    serde_json::from_str(row.text(column)?)
        .map_err(|error| StoreError::Corrupt(format!("column {column} is not the document that it should be: {error}")))
}

/// A time column.
pub(crate) fn time(row: &Row, column: usize) -> Result<Time, StoreError> {
    Ok(Time::from_millis(row.int(column)?))
}

/// A time column that may be empty.
pub(crate) fn opt_time(row: &Row, column: usize) -> Result<Option<Time>, StoreError> {
    Ok(row.opt_int(column)?.map(Time::from_millis))
}

/// A number that fits 32 bits.
pub(crate) fn number(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.int(column)?)
        .map_err(|_| StoreError::Corrupt(format!("column {column} is not a number of 32 bits")))
}

/// A number that is not negative.
pub(crate) fn long_number(row: &Row, column: usize) -> Result<u64, StoreError> {
    u64::try_from(row.int(column)?).map_err(|_| StoreError::Corrupt(format!("column {column} is a negative number")))
}

/// A number that fits 32 bits, or nothing.
pub(crate) fn opt_number(row: &Row, column: usize) -> Result<Option<u32>, StoreError> {
    row.opt_int(column)?.map(|_| number(row, column)).transpose()
}

/// Octets of a fixed length.
pub(crate) fn octets<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], StoreError> {
    row.blob(column)?.try_into().map_err(|_| StoreError::Corrupt(format!("column {column} does not have {N} octets")))
}

/// A word of a closed set.
pub(crate) fn word<T>(row: &Row, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text = row.text(column)?;
    parse(text).ok_or_else(|| StoreError::Corrupt(format!("column {column} holds the unknown word \"{text}\"")))
}
