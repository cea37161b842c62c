//! Every command of the command line against a live server, on both engines: what it prints for people, what it prints
//! for scripts, and how it fails.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod alerts;
mod authorities;
mod certificates;
mod connections;
mod delivery;
mod inventory;
mod iot;
mod iot_moving;
mod live;
mod local;
mod ocsp;
mod people;
mod prune;
mod rules;
mod vendor_export;
mod verify;
