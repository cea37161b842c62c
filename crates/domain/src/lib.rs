//! The nouns and the rules of Chancery: who asks, what is allowed, what is decided.
//!
//! Everything here is a pure function of its arguments. Nothing here knows HTTP, SQL, a clock or a private key.

pub mod alert;
pub mod application;
pub mod authority;
pub mod caller;
pub mod collection;
pub mod connection;
pub mod duration;
pub mod error;
pub mod id;
pub mod identity;
pub mod inventory;
pub mod issuance;
pub mod job;
pub mod ocsp;
pub mod permission;
pub mod policy;
pub mod profile;
pub mod registry;
pub mod renewal;
pub mod retention;
pub mod revocation;
pub mod role;
pub mod secret;
pub mod slug;
pub mod subscriber;
pub mod sync;
pub mod template;
pub mod time;

pub use error::{Error, Failure, Reason, Refusal, Result, Violation};
pub use id::*;
pub use time::Time;
