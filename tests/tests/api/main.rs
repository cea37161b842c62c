//! The REST API over HTTP, each test on both engines.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod accounts;
mod alerts;
mod applications;
mod authorities;
mod authority_access;
mod authority_certificates;
mod authority_configuration;
mod chains;
mod clients;
mod collections;
mod csr;
mod destinations;
mod direct;
mod export;
mod fsck;
mod idempotency;
mod import;
mod import_leaf;
mod inventory;
mod issue;
mod issuing;
mod lifetimes;
mod limbo;
mod lists;
mod ocsp;
mod policies;
mod profiles;
mod races;
mod records;
mod registry_beyond;
mod registry_calls;
mod registry_extension;
mod registry_trust;
mod renewal;
mod requests;
mod retention;
mod revocation;
mod rights;
mod server;
mod sign;
mod subscribers;
mod sync_ledger;
mod syncs;
mod templates;
mod tenants;
mod verify;
