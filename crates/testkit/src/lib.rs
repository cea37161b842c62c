//! Test databases, clocks and outside tools. Only for tests.

pub mod chains;
pub mod database;
pub mod database_proxy;
pub mod mail;
pub mod moto;
pub mod nats;
pub mod nginx;
pub mod pgbouncer;
pub mod postgres;
mod programs;
pub mod severed;
pub mod sshd;
pub mod stand_ins;

pub use database::{TestDatabase, TestEngine, both_engines};
pub use postgres::PrivateCluster;
