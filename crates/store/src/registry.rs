//! The device registry: registries, devices, brokers, what they prove themselves with, and what their topics hold.

pub mod access;
pub mod access_end;
pub mod brokers;
pub mod credentials;
pub mod devices;
pub mod hooks;
pub mod monitoring;
pub mod node_letter;
pub mod operations;
pub mod registries;
pub mod standing;
pub mod topic_value;
pub mod trust;
