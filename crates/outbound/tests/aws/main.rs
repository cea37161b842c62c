//! What leads to AWS, held against a stand-in that checks signatures, and against moto.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod acm;
mod connection;
mod delivery;
mod put_object;
mod secrets_manager;
