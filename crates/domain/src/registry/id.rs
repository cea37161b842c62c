//! Ids of the device registry: texts of at most 50 characters that are never looked into. Ours are `are` and 17 characters
//! of `0-9a-v` (contract §1).

use serde::{Deserialize, Serialize};
use std::fmt;

/// The greatest length of an id that a caller may send.
pub const RESOURCE_ID_CHARACTERS_MAX: usize = 50;

macro_rules! text_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// A new id of random octets.
            pub fn from_random(random: [u8; 11]) -> Self {
                Self(spell(random))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}

text_ids! {
    /// A registry.
    RegistryId;
    /// A device.
    DeviceId;
    /// A broker.
    BrokerId;
    /// A password of a registry, device or broker.
    PasswordId;
    /// An operation.
    OperationId;
    /// An authority that a registry trusts.
    TrustedAuthorityId;
    /// A way in for a broker outside.
    BrokerHookId;
}

/// `are` and 17 characters of 5 bits each.
fn spell(random: [u8; 11]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut bits = random.iter().fold(0_u128, |bits, octet| bits << 8 | u128::from(*octet));
    let mut text = String::from("are");
    for _ in 0..17 {
        text.push(char::from(DIGITS[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_twenty_characters_and_keeps_the_random_bits_apart() {
        let zero = RegistryId::from_random([0; 11]);
        assert_eq!(zero.as_str(), "are00000000000000000");
        let full = RegistryId::from_random([255; 11]);
        assert_eq!(full.as_str(), "arevvvvvvvvvvvvvvvvv");
        for bit in 0..85 {
            let mut octets = [0_u8; 11];
            octets[10 - bit / 8] = 1 << (bit % 8);
            assert_ne!(RegistryId::from_random(octets), zero, "bit {bit}");
        }
    }
}
