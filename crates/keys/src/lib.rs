//! Where private keys live: makes them, seals them, signs with them.
//!
//! The only crate that holds a private key. It knows no database and no network: sealed keys come in and go out as
//! byte values, and what is signed comes in as finished bytes.
//!
//! ```text
//! master key (file, environment)  seals  data key of a project  seals  private keys and other secrets of that project
//! ```
//!
//! Types that hold a secret do not print, are not compared with `==`, are not serialised, and are wiped when dropped.

mod data_key;
mod error;
mod keyring;
pub mod leaf_form;
mod master;
mod pem_key;
mod pool;
mod private_file;
mod private_key;
pub mod rotation;
mod secret;
pub mod sign;
mod workers;

pub use data_key::{DataKey, Place, SealedDataKey, rewrap};
pub use error::KeyError;
pub use keyring::Keyring;
pub use master::MasterKey;
pub use pool::{KeyPool, Lane, PoolSize};
pub use private_key::PrivateKey;
pub use secret::Secret;
