//! A certificate with its chain and key: what a server shows.

use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::{Pin, TlsError, pem, provider};

/// A certificate, the certificates above it, and the private key; known to belong together.
#[derive(Clone)]
pub struct Identity {
    chain_pem: String,
    key_pem: String,
    certified: Arc<CertifiedKey>,
    pin: Pin,
}

impl Identity {
    /// Reads a chain (leaf first) and its key, and checks that they belong together.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = pem::certificates(chain_pem)?;
        let Some(leaf) = chain.first() else {
            return Err(TlsError::Missing { what: "certificate", begin: "CERTIFICATE" });
        };
        let pin = Pin::of(leaf);
        let key = pem::private_key(key_pem)?;
        let key = provider().key_provider.load_private_key(key).map_err(TlsError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                return Err(TlsError::KeyMismatch);
            }
            // The key cannot give its public half: nothing to compare.
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(error) => return Err(TlsError::Certificate(error)),
        }
        let (chain_pem, key_pem) = (chain_pem.to_owned(), key_pem.to_owned());
        Ok(Self { chain_pem, key_pem, certified: Arc::new(certified), pin })
    }

    /// The chain, leaf first.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key. A secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The pin of the leaf.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The form in which rustls shows it, for resolvers of several names.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("pin", &self.pin).finish_non_exhaustive()
    }
}
