//! The MQTT edge of the device registry (contract/yandex §6): MQTT 3.1.1 and 5 over TLS, and over WebSocket over TLS.
//!
//! `listen.rs` accepts, `tls.rs` looks at client certificates, `connection.rs` is the life of one connection. Packets are
//! read and answered by a codec (`packet.rs`, `answer.rs`); who may do what is decided by `services` and `domain`.

mod answer;
mod connection;
mod delivery;
mod frame;
mod link;
pub mod listen;
mod packet;
pub mod tls;
mod websocket;
