//! Cuts the octets of a connection into packets: one octet, a length of one to four, and so many octets (MQTT 5 §2.1).

use crate::packet::Violation;
use domain::registry::topic::PAYLOAD_OCTETS_MAX;
use std::sync::Arc;

/// The greatest packet that is taken: the greatest payload, its topic, and properties in reason.
pub const PACKET_OCTETS_MAX: usize = PAYLOAD_OCTETS_MAX + 16 * 1024;
/// The greatest CONNECT, which comes from strangers: a last will has at most 64 KiB.
pub const CONNECT_OCTETS_MAX: usize = 96 * 1024;

/// A packet, not looked into.
#[derive(Debug)]
pub struct Frame {
    /// The kind, 1 to 15.
    pub kind: u8,
    /// The lower four bits of the first octet.
    pub flags: u8,
    /// What follows the length.
    pub body: Arc<[u8]>,
}

/// The first packet of a buffer and how many octets it has; nothing when more are needed.
pub fn first(input: &[u8], octets_max: usize) -> Result<Option<(Frame, usize)>, Violation> {
    let Some(head) = input.first() else { return Ok(None) };
    let mut length = 0_usize;
    for position in 0..4 {
        let Some(octet) = input.get(1 + position) else { return Ok(None) };
        length |= usize::from(octet & 0x7f) << (7 * position);
        if octet & 0x80 == 0 {
            let start = 2 + position;
            if start + length > octets_max {
                return Err(Violation::too_large(start + length));
            }
            let Some(body) = input.get(start..start + length) else { return Ok(None) };
            let frame = Frame { kind: head >> 4, flags: head & 0x0f, body: body.into() };
            return Ok(Some((frame, start + length)));
        }
    }
    Err(Violation::malformed("the length of a packet has more than four octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_where_their_length_says() {
        let mut input = vec![0xc0, 0];
        input.extend([0x30, 0x83, 0x00, 1, 2, 3]);
        let (ping, used) = first(&input, 100).unwrap().unwrap();
        assert_eq!((ping.kind, ping.flags, ping.body.len(), used), (12, 0, 0, 2));
        let (publish, used) = first(&input[2..], 100).unwrap().unwrap();
        assert_eq!((publish.kind, &*publish.body, used), (3, &[1, 2, 3][..], 6));
        for end in 0..6 {
            assert!(first(&input[2..2 + end], 100).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn what_is_too_large_or_malformed_is_refused_before_it_is_kept() {
        assert!(first(&[0x30, 0xff, 0xff, 0xff, 0x7f], PACKET_OCTETS_MAX).is_err());
        assert!(first(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX).is_err());
        assert!(first(&[0x30, 5], 6).is_err());
    }
}
