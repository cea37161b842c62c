//! The device registry's API, compatible with Yandex IoT Core.

pub mod proto;
mod render;
