//! The MQTT edge of a whole server with real clients, each test on both engines: mosquitto, paho, and a client of our own
//! where others refuse what is to be tried.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

#[path = "../process/api.rs"]
#[allow(dead_code, reason = "the tests of processes use more of it")]
mod api;
mod certificates;
mod clients;
mod first_connection;
mod kill;
mod nodes;
mod sessions;
#[path = "../process/site.rs"]
#[allow(dead_code, reason = "the tests of processes use more of it")]
mod site;
mod topics;
mod world;
