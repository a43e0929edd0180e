//! Certificates of the cluster: a CA of its own, leaf certificates, pins, and rustls settings for both
//! sides. Not an ACME client, and no store: PEM goes out, its owner keeps it.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod authority;
mod client;
mod identity;
mod pem;
mod pin;
mod server;

pub use authority::{Authority, Validity};
pub use client::{
    client_config, client_config_pinned, client_config_unverified, roots, system_roots,
};
pub use identity::Identity;
pub use pin::{ParsePinError, Pin};
pub use server::server_config;

/// Installs the one cryptography provider of all our processes. Every `main` calls it first; another
/// call changes nothing.
pub fn install_provider() {
    // The only failure is that a provider is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// The provider, for settings that must not depend on what the process installed.
pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What is wrong with a certificate, a key or TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text holds no section of the kind that is needed.
    #[error("no {what} found: PEM with a line -----BEGIN {begin}----- is needed")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// The label of its PEM section.
        begin: &'static str,
    },
    /// A PEM section is damaged.
    #[error("{what} is not valid PEM")]
    Pem {
        /// What was read.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The private key cannot be used.
    #[error("the private key cannot be used: RSA, ECDSA and Ed25519 keys can")]
    Key(#[source] rustls::Error),
    /// A certificate cannot be used.
    #[error("the certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// A name cannot stand in a certificate.
    #[error("{name:?} cannot stand in a certificate: a host name, *.host name or IP address can")]
    Name {
        /// The name.
        name: String,
    },
    /// Certificate making failed.
    #[error("cannot make the {what}")]
    Make {
        /// What was made.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// No root certificate could be read from any of the system's places.
    #[error(
        "no root certificates found: install ca-certificates or set SSL_CERT_FILE (tried {tried})"
    )]
    NoRoots {
        /// The places.
        tried: String,
    },
}
