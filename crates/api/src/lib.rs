//! The Infisical-compatible REST API.

pub mod accounts;
pub mod alerts;
pub mod app;
pub mod applications;
pub mod authorities;
pub mod body;
pub mod certificates;
mod check;
pub mod collections;
pub mod connections;
pub mod docs;
pub mod edge;
pub mod error;
pub mod openapi;
pub mod policies;
pub mod profiles;
pub mod render;
pub mod retention;
pub mod route;
pub mod routes;
pub mod schema;
pub mod server;
pub mod subscribers;
pub mod syncs;
pub mod templates;
pub mod verify;
mod work;
