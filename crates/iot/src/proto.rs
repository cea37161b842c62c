//! What `build.rs` made of `proto/`: messages and service traits in modules that are named like their packages.

#![allow(missing_docs, unused_qualifications, clippy::all, rustdoc::all, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/proto.rs"));

/// Every file of `proto/` with its options, encoded as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
