//! The Infisical-compatible REST API.

pub mod accounts;
pub mod alerts;
pub mod app;
mod authorities;
pub mod body;
pub mod certificates;
mod check;
pub mod connections;
pub mod docs;
pub mod edge;
pub mod error;
pub mod openapi;
pub mod policies;
pub mod profiles;
pub mod render;
pub mod route;
pub mod routes;
pub mod schema;
pub mod server;
pub mod syncs;
pub mod verify;
mod work;
