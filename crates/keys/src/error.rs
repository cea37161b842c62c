//! What can go wrong with a key. No message holds a secret.

use std::{fmt, io, path::Path};

/// Why a key could not be made, read, opened or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The bytes are not what they should be: no PKCS#8, a cut ciphertext, a master key file that is not base64.
    Malformed,
    /// A key or a combination of key and signature algorithm that Chancery does not know.
    Unsupported,
    /// The ciphertext does not open: another master key sealed it, it was changed, or it was moved to another place.
    WrongKey,
    /// The queue is full. The caller may come back (HTTP 429 or 503 with Retry-After).
    Busy,
    /// The machine failed: a file cannot be read, a thread cannot start, a signature does not verify.
    Failed(String),
}

impl KeyError {
    /// A failed file operation, named by what was tried and on which file.
    pub(crate) fn file(tried: &str, path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("cannot {tried} {}: {error}", path.display()))
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => formatter.write_str("the key is malformed"),
            Self::Unsupported => formatter
                .write_str("the key algorithm or its combination with the signature algorithm is not supported"),
            Self::WrongKey => formatter.write_str("the sealed value cannot be opened with the keys that are at hand"),
            Self::Busy => formatter.write_str("too many key operations are waiting"),
            Self::Failed(cause) => formatter.write_str(cause),
        }
    }
}

impl std::error::Error for KeyError {}
