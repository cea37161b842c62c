//! The server and its command line.
//!
//! [`server`] puts the parts together; [`cli`] is a client of the REST API; [`local`] runs what works on this machine's
//! own data.

mod backup;
pub mod cli;
pub mod config;
mod doctor;
mod first_run;
mod idle;
mod lane;
mod listen;
pub mod local;
mod metrics;
mod mqtt_listeners;
mod open;
mod owner;
mod reach;
mod restore;
pub mod server;
mod service_manager;
mod tls;
mod traffic_metrics;
mod transfer;
