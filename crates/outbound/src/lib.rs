//! Every connection that the server opens by itself: sync destinations, targets of revocation lists, probes, NATS.
//!
//! [`egress`] says where connections may go, [`http`] is the one HTTP client, [`destination`] is what every place that
//! certificates are carried to can do. Nothing here knows the database or decides what is to be where.

pub mod alert;
pub mod aws;
pub mod connection;
pub mod destination;
pub mod egress;
pub mod error;
pub mod files;
mod host;
pub mod http;
pub mod jks;
pub mod list_target;
pub mod nats;
pub mod pkcs12;
pub mod probe;
mod refusal;
mod ssh;

pub use error::DeliveryError;
