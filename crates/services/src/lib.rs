//! The use cases: permission, decision, commit, audit; one file each.
//!
//! Everything is a method of [`Context`], so a use case reads straight down: it asks the caller's rights, reads, decides
//! with `domain`, and hands one set of changes to `store`. No edge is known here; connections to other systems
//! are opened by `outbound`, and never while a transaction is.

pub mod account_binding;
pub mod alerts;
pub mod application_members;
pub mod application_profiles;
pub mod applications;
mod audit;
mod authenticate;
pub mod authorities;
mod bookmarks;
pub mod bootstrap;
pub mod certificates;
pub mod certify_authority;
pub mod collections;
pub mod connections;
pub mod context;
pub mod doctor;
pub mod export;
pub mod foreign_lists;
pub mod fsck;
pub mod iam_token;
pub mod idempotency;
pub mod identities;
pub mod import_certificate;
pub mod import_leaf;
pub mod inventory;
pub mod issue;
pub mod issue_from;
pub mod issuer;
mod list_shelf;
pub mod login;
pub mod members;
pub mod ocsp;
mod patient;
pub mod policies;
pub mod profiles;
pub mod projects;
pub mod registry;
pub mod renew;
pub mod retention;
pub mod revocation_lists;
pub mod revoke;
pub mod server_certificate;
mod subject;
pub mod subscribers;
mod sync_items;
pub mod sync_plan;
mod sync_prove;
mod sync_run;
pub mod syncs;
pub mod templates;
mod token;
mod vault;
pub mod verify;
mod visible;
pub mod work;

pub use context::{Addresses, Clock, Context, Outward, Random};
