//! The REST API over HTTP, each test on both engines.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod accounts;
mod alerts;
mod authorities;
mod authority_access;
mod authority_certificates;
mod authority_configuration;
mod chains;
mod csr;
mod destinations;
mod fsck;
mod idempotency;
mod import;
mod issue;
mod issuing;
mod lifetimes;
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
mod revocation;
mod rights;
mod server;
mod sign;
mod sync_ledger;
mod syncs;
mod tenants;
mod verify;
