//! Bytes that must not leak: an opened private key, a token key, a stored answer.
//!
//! Deliberately without Debug, Display, Clone, PartialEq and Serialize; the tests hold that at compile time.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::KeyError;

/// Secret bytes, wiped when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over. Copies that the caller still holds are the caller's to wipe.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// `length` bytes from the operating system's and the library's random generator.
    pub fn random(length: usize) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; length]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Failed("the random generator failed".to_owned()))?;
        Ok(Self(bytes))
    }

    /// The bytes themselves. Whoever calls this must not log, keep or copy them further than needed.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether the bytes are the same, in a time that depends on the lengths only.
    pub fn constant_time_eq(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }

    /// Shortens the secret; the bytes behind stay in the allocation and are wiped with it.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The bytes, to be worked on in place.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataKey, MasterKey, PrivateKey};

    /// Fails to compile when the type implements the trait: the method path then has two candidates.
    macro_rules! assert_not_implemented {
        ($kind:ty: $($forbidden:path),+) => {$({
            trait Ambiguous<Marker> { fn candidate() {} }
            struct Implemented;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $forbidden> Ambiguous<Implemented> for T {}
            let _ = <$kind as Ambiguous<_>>::candidate;
        })+};
    }

    #[test]
    fn types_that_hold_secrets_neither_print_nor_compare_nor_copy() {
        assert_not_implemented!(Secret: std::fmt::Debug, std::fmt::Display, PartialEq, Clone);
        assert_not_implemented!(MasterKey: std::fmt::Debug, std::fmt::Display, PartialEq, Clone);
        assert_not_implemented!(DataKey: std::fmt::Debug, std::fmt::Display, PartialEq, Clone);
        assert_not_implemented!(PrivateKey: std::fmt::Debug, std::fmt::Display, PartialEq, Clone);
    }

    #[test]
    fn equality_is_of_every_byte_and_the_length() {
        let secret = Secret::new(vec![1, 2, 3]);
        assert!(secret.constant_time_eq(&[1, 2, 3]));
        for other in [&[1, 2, 4][..], &[1, 2], &[1, 2, 3, 0], &[]] {
            assert!(!secret.constant_time_eq(other), "{other:?}");
        }
    }
}
