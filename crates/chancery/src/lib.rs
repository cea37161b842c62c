//! The server and its command line.
//!
//! [`server`] puts the parts together; [`cli`] is a client of the REST API; [`local`] runs what works on this machine's
//! own data.

pub mod cli;
pub mod config;
mod first_run;
mod idle;
mod lane;
mod listen;
pub mod local;
mod metrics;
mod mqtt_listeners;
mod open;
mod reach;
pub mod server;
mod tls;
