//! Stand-ins of systems that certificates are carried to, written from the vendors' rules and not from our client. Each
//! listens on a port of 127.0.0.1, holds its callers to the vendor's rules, and fails when it is told to.

pub mod aws;
pub mod put_folder;
//! Stand-ins for the systems that certificates are carried to. Each holds the vendor's published rules, checks who is asking,
//! can be told to fail in the ways that networks and servers do, and shows all that it holds.

pub mod chef;
pub mod f5;
pub mod faults;
pub mod kubernetes;
pub mod material;
pub mod vault;
pub mod webhook;

pub use faults::{Fault, Faults};
pub use material::Material;
//! Stand-ins of systems that certificates are carried to: small servers that hold their vendor's rules and can be told to
//! fail. They are written from the vendors' documents, not from our clients.

pub mod azure;
pub mod cloud;
pub mod cloudflare;
pub mod gcp;
