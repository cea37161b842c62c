//! The REST API over HTTP, each test on both engines.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod accounts;
mod policies;
mod profiles;
mod server;
