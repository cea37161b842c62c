//! Stand-ins of systems that certificates are carried to, written from the vendors' rules and not from our client. Each
//! listens on a port of 127.0.0.1, holds its callers to the vendor's rules, checks who is asking, can be told to fail in the
//! ways that networks and servers do, and shows all that it holds.

pub mod aws;
pub mod azure;
pub mod chef;
pub mod cloud;
pub mod cloudflare;
pub mod f5;
pub mod faults;
pub mod gcp;
pub mod kubernetes;
pub mod material;
pub mod put_folder;
pub mod sink;
pub mod tls;
pub mod vault;
pub mod webhook;

pub use faults::{Fault, Faults};
pub use material::Material;
