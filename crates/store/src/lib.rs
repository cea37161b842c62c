//! Every SQL statement, the migrations and the two engines.

mod announcement;
pub mod audit;
pub mod audit_chain;
pub mod authority;
pub mod certificate;
mod changes;
pub mod check;
mod columns;
pub mod connection;
pub mod credential;
pub mod db;
mod error;
pub mod foreign_list;
pub mod idempotency;
pub mod identity;
pub mod job;
mod migrate;
mod postgres;
mod postgres_link;
mod postgres_listen;
pub mod profile;
pub mod project;
pub mod registry;
pub mod renewal;
pub mod revocation;
pub mod secret;
mod sqlite;
mod sqlite_checkpoint;
mod sqlite_link;
pub mod sync;
mod value;

pub use announcement::{Announcement, Ear, Heard};
pub use changes::{AuditRecord, Changes, Expect, Statement};
pub use db::{Db, Engine, FirstStartHold, Settings, Statistics};
pub use error::StoreError;
pub use value::{Row, VALUE_LENGTH_MAX, Value};
