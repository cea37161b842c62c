//! How the private key of a leaf is kept: without what the certificate beside it says already.
//!
//! An EC key is its scalar; with the point from the certificate's SubjectPublicKeyInfo it is the whole key again, a third
//! of the octets. Other keys are kept as PKCS#8.

use x509::KeyAlgorithm;

use crate::private_key::{pkcs8_before_point, pkcs8_before_scalar, spki_prefix};
use crate::{KeyError, Secret};

const EC: [KeyAlgorithm; 3] = [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521];

/// The octets to seal for an exported key.
pub fn compact(pkcs8: &Secret) -> Secret {
    let der = pkcs8.expose();
    let scalar = EC.into_iter().find_map(|algorithm| {
        let rest = der.strip_prefix(pkcs8_before_scalar(algorithm))?;
        rest.get(..scalar_length(algorithm))
    });
    Secret::new(scalar.unwrap_or(der).to_vec())
}

/// The PKCS#8 of a kept key, with the public half of its certificate. Whether the halves belong together is found out
/// by whoever reads the PKCS#8.
pub fn expand(kept: &Secret, spki: &[u8]) -> Result<Secret, KeyError> {
    let scalar = kept.expose();
    for algorithm in EC {
        let Some(point) = spki.strip_prefix(spki_prefix(algorithm)) else { continue };
        if scalar.len() != scalar_length(algorithm) {
            return Err(KeyError::Malformed);
        }
        let parts = [pkcs8_before_scalar(algorithm), scalar, pkcs8_before_point(algorithm), point];
        // Whole capacity at once: a growing vector would leave parts of the key behind.
        let mut der = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| der.extend_from_slice(part));
        return Ok(Secret::new(der));
    }
    Ok(Secret::new(scalar.to_vec()))
}

/// Octets of the private scalar (RFC 5915 §3): those of the curve's order.
const fn scalar_length(algorithm: KeyAlgorithm) -> usize {
    algorithm.bits().div_ceil(8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;

    #[test]
    fn every_key_comes_back_as_it_was() {
        for algorithm in KeyAlgorithm::ALL.into_iter().filter(|algorithm| algorithm.bits() < 3000) {
            let key = PrivateKey::generate(algorithm).unwrap();
            let exported = key.export_pkcs8().unwrap();
            let kept = compact(&exported);
            let back = expand(&kept, key.public_spki_der()).unwrap();
            assert!(exported.constant_time_eq(back.expose()), "{algorithm}");
            if EC.contains(&algorithm) {
                assert_eq!(kept.expose().len(), scalar_length(algorithm), "{algorithm}");
            }
        }
    }

    #[test]
    fn halves_that_do_not_belong_together_do_not_read() {
        let (one, other) = (PrivateKey::generate(KeyAlgorithm::EcP256), PrivateKey::generate(KeyAlgorithm::EcP256));
        let kept = compact(&one.unwrap().export_pkcs8().unwrap());
        let other = other.unwrap();
        let mixed = expand(&kept, other.public_spki_der()).unwrap();
        assert!(PrivateKey::from_pkcs8(mixed.expose()).is_err());
        let short = Secret::new(kept.expose()[1..].to_vec());
        assert!(matches!(expand(&short, other.public_spki_der()), Err(KeyError::Malformed)));
    }
}
