//! The device registry: registries, devices, brokers, what they prove themselves with, and what their topics hold.

pub mod access_end;
