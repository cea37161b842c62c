//! Key stores for programs: a certificate with its chain and its key in one file that a password opens (contract §6.7,
//! 6.10).

use crate::certificates::{CertificateName, KeyForm};
use crate::context::Context;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::secret::SecretText;
use domain::{Error, Result};
use outbound::{jks, pkcs12};

pub use outbound::pkcs12::Encryption;

/// The format of a key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStoreFormat {
    /// PKCS#12.
    Pkcs12(Encryption),
    /// The format of old Java programs, which has no choice of encryption.
    Jks,
}

/// A key store that is wanted.
pub struct KeyStoreRequest {
    /// Its format.
    pub format: KeyStoreFormat,
    /// The name of its one entry.
    pub alias: String,
    /// What opens it.
    pub password: SecretText,
}

/// A key store.
pub struct KeyStore {
    /// The serial number of the certificate.
    pub serial_number: String,
    /// The file.
    pub octets: Vec<u8>,
}

impl Context {
    /// A certificate with its chain and its key in one file. The audit says so before anybody has it.
    #[compiled_here]
    pub async fn key_store(
        &self,
        caller: &Caller,
        name: &CertificateName,
        wanted: &KeyStoreRequest,
    ) -> Result<KeyStore> {
        let record = self.certificate(caller, name).await?;
        let key = self.unrecorded_key_of(caller, &record).await?;
        let key = key.ok_or_else(|| {
            Error::invalid("no private key is stored for this certificate, and a key store is there to hold it")
        })?;
        let above = self.chain_above(&record.row.issued).await?;
        let leaf = record.certificate.as_der();
        let certificates: Vec<&[u8]> = std::iter::once(leaf).chain(above.iter().map(Vec::as_slice)).collect();
        let (alias, password) = (wanted.alias.as_str(), wanted.password.expose());
        let (octets, form) = match wanted.format {
            KeyStoreFormat::Pkcs12(encryption) => {
                let contents =
                    pkcs12::Contents { certificates: &certificates, key: Some(key.expose()), alias, password };
                (pkcs12::write_once(&contents, encryption, &self.random.octets()), KeyForm::Pkcs12)
            }
            KeyStoreFormat::Jks => {
                let contents = jks::Contents {
                    certificates: &certificates,
                    key: key.expose(),
                    alias,
                    password,
                    created_at_millis: self.now().millis(),
                };
                (jks::write(&contents, &self.random.octets()), KeyForm::Jks)
            }
        };
        self.note_key_given(caller, &record, form).await?;
        Ok(KeyStore { serial_number: serial_hex(&record.certificate), octets })
    }
}
