//! Stand-ins of systems that certificates are carried to, written from the vendors' rules and not from our client. Each
//! listens on a port of 127.0.0.1, holds its callers to the vendor's rules, and fails when it is told to.

pub mod aws;
pub mod put_folder;
