//! Reading PEM, with errors that say what was looked for.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;

/// All certificates of a text, at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|source| TlsError::Pem { what, source })?;
    if all.is_empty() { Err(TlsError::Missing { what, begin: "CERTIFICATE" }) } else { Ok(all) }
}

/// The first private key of a text.
pub(crate) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            Err(TlsError::Missing { what, begin: "PRIVATE KEY" })
        }
        Err(source) => Err(TlsError::Pem { what, source }),
    }
}
