//! A pin: the SHA-256 of a leaf certificate, as `flynn cluster add -p PIN` takes it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a leaf certificate's DER. Its text is base64 (standard alphabet, padded).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// Why a text is no pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePinError {
    /// Not base64.
    #[error("error decoding tls pin")]
    Base64(#[source] base64::DecodeError),
    /// Not the length of a SHA-256.
    #[error("tls pin has {0} bytes, a SHA-256 has 32")]
    Length(usize),
}

impl Pin {
    /// The pin of a certificate.
    pub fn of(leaf: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(leaf.as_ref()).into())
    }
}

impl FromStr for Pin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text.trim()).map_err(ParsePinError::Base64)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| ParsePinError::Length(length))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_reads_back() {
        let pin = Pin::of(&CertificateDer::from(b"abc".to_vec()));
        assert_eq!(pin.to_string(), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert!(matches!("§".parse::<Pin>(), Err(ParsePinError::Base64(_))));
        assert_eq!("YWJj".parse::<Pin>(), Err(ParsePinError::Length(3)));
    }
}
