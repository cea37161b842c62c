//! A message on its way to a client: PUBLISH of either version (MQTT 3.1.1 §3.3, MQTT 5 §3.3).
//!
//! This one packet is not written by the codec: it goes straight from the shared message into the buffer of the
//! connection. A test holds it against the codec.

use crate::packet::Version;
use bytes::{BufMut, BytesMut};
use services::registry::outbox::Delivery;

/// How many octets the packet has.
pub fn size(version: Version, delivery: &Delivery) -> usize {
    let remaining = remaining(version, delivery);
    1 + length_octets(remaining) + remaining
}

/// Appends the packet. `id` is for a message that is to be acknowledged.
pub fn write(version: Version, delivery: &Delivery, id: Option<u16>, into: &mut BytesMut) {
    let name = name(delivery);
    into.put_u8(0x30 | u8::from(id.is_some()) << 1 | u8::from(delivery.is_retained));
    put_length(remaining(version, delivery), into);
    // Names have at most 1024 characters and an alias.
    into.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    into.put_slice(name.as_bytes());
    if let Some(id) = id {
        into.put_u16(id);
    }
    if version == Version::V5 {
        match delivery.message.properties.is_empty() {
            true => into.put_u8(0),
            false => into.put_slice(&delivery.message.properties),
        }
    }
    into.put_slice(&delivery.message.payload);
}

fn name(delivery: &Delivery) -> &str {
    delivery.name.as_deref().unwrap_or(&delivery.message.topic)
}

fn remaining(version: Version, delivery: &Delivery) -> usize {
    let id = if delivery.is_acknowledged { 2 } else { 0 };
    let properties = match version {
        Version::V3 => 0,
        Version::V5 => delivery.message.properties.len().max(1),
    };
    2 + name(delivery).len() + id + properties + delivery.message.payload.len()
}

fn length_octets(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn put_length(mut length: usize, into: &mut BytesMut) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        match length {
            0 => return into.put_u8(low),
            _ => into.put_u8(low | 0x80),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use bytes::Bytes;
    use mqtt_protocol_core::mqtt::packet::{Qos, v3_1_1, v5_0};
    use services::registry::outbox::Message;
    use std::sync::Arc;

    #[test]
    fn the_codec_reads_what_is_written() {
        for octets in [0, 1, 100, 130, 16_000, 17_000, 262_144] {
            for (name, is_acknowledged, is_retained) in [(None, false, false), (Some("an/alias"), true, true)] {
                let message = Message {
                    topic: "$devices/are1/events".into(),
                    payload: Bytes::from(vec![7; octets]),
                    properties: Bytes::from_static(&[2, 1, 1]),
                    origin: 0,
                };
                let name: Option<Arc<str>> = name.map(Into::into);
                let delivery =
                    Delivery { message: Arc::new(message), name: name.clone(), is_acknowledged, is_retained };
                let expected = name.as_deref().unwrap_or("$devices/are1/events");
                let id = is_acknowledged.then_some(9);
                for version in [Version::V3, Version::V5] {
                    let mut written = BytesMut::new();
                    write(version, &delivery, id, &mut written);
                    assert_eq!(written.len(), size(version, &delivery));
                    let (frame, used) = frame::first(&written, frame::PACKET_OCTETS_MAX).unwrap().unwrap();
                    assert_eq!(used, written.len());
                    let read = match version {
                        Version::V3 => {
                            let packet = v3_1_1::Publish::parse(frame.flags, frame.body).unwrap().0;
                            (
                                packet.topic_name().to_owned(),
                                packet.packet_id(),
                                packet.retain(),
                                packet.qos(),
                                packet.payload().len(),
                            )
                        }
                        Version::V5 => {
                            let packet = v5_0::Publish::parse(frame.flags, frame.body).unwrap().0;
                            assert_eq!(packet.props().len(), 1);
                            (
                                packet.topic_name().to_owned(),
                                packet.packet_id(),
                                packet.retain(),
                                packet.qos(),
                                packet.payload().len(),
                            )
                        }
                    };
                    let qos = if is_acknowledged { Qos::AtLeastOnce } else { Qos::AtMostOnce };
                    assert_eq!(read, (expected.to_owned(), id, is_retained, qos, octets));
                }
            }
        }
    }
}
