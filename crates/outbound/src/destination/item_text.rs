//! An item in the texts that other systems take, and what they ask of all of them alike.

use super::Item;
use crate::DeliveryError;
use x509::Certificate;

/// The field, annotation or label that bears the mark of an object of ours.
pub(crate) const MARK: &str = "chancery-object";

impl Item {
    /// The leaf, in PEM.
    pub(crate) fn leaf_text(&self) -> String {
        text_of(&self.leaf)
    }

    /// The chain without the leaf, in PEM; empty when there is none.
    pub(crate) fn chain_text(&self) -> String {
        self.chain.iter().map(text_of).collect()
    }

    /// The leaf and its chain, in PEM.
    pub(crate) fn leaf_and_chain_text(&self) -> String {
        self.leaf_text() + &self.chain_text()
    }

    /// The root, in PEM.
    pub(crate) fn root_text(&self) -> Option<String> {
        self.root.as_ref().map(text_of)
    }

    /// The key, in PEM; refused when there is none here.
    pub(crate) fn key_text(&self) -> Result<String, DeliveryError> {
        match &self.key {
            Some(key) => Ok(format!("{}\n", key.expose().trim_end())),
            None => Err(DeliveryError::Refused(format!(
                "the private key of {} is not kept here, and the destination needs it",
                self.common_name
            ))),
        }
    }

    /// Refuses a name that is longer than this or has characters other than letters, digits and these.
    pub(crate) fn must_be_named_of(&self, others: &str, length_max: usize) -> Result<(), DeliveryError> {
        let good = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
        if self.name.is_empty() || self.name.len() > length_max || !self.name.chars().all(good) {
            let others: Vec<String> = others.chars().map(|character| format!("“{character}”")).collect();
            return Err(DeliveryError::Refused(format!(
                "the name “{}” is not 1 to {length_max} letters, digits, {}",
                self.name,
                others.join(", ")
            )));
        }
        Ok(())
    }
}

/// With a newline at the end, so that texts can follow one another.
fn text_of(certificate: &Certificate) -> String {
    certificate.to_pem() + "\n"
}
