//! The device registry's API, compatible with Yandex IoT Core: gRPC, and REST from the same handlers.
//!
//! `proto/` is the description of both. A handler is written once, for gRPC, in `grpc/`; `rest.rs` turns requests by HTTP
//! into calls of it; what goes beyond the vendor's API is by HTTP alone, in `extension.rs`. `app.rs` holds the order of checks, `check.rs` the rules for single fields, `error.rs` the one table
//! from reasons to codes.

pub mod app;
pub mod check;
pub mod edge;
pub mod error;
mod extension;
mod grpc;
pub mod proto;
pub mod render;
mod rest;
