//! rustls settings of clients: roots, a pin, or no check at all where a protocol says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Pin, TlsError, pem, provider};

/// Where distributions keep the bundle of roots.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A root store of the certificates of a PEM text, such as a cluster's CA.
pub fn roots(pem_text: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in pem::certificates(pem_text)? {
        store.add(certificate).map_err(TlsError::Certificate)?;
    }
    Ok(store)
}

/// The machine's roots: the file that SSL_CERT_FILE names, else the distribution's bundle. Single
/// certificates that rustls cannot use are left out.
pub fn system_roots(ssl_cert_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let named = ssl_cert_file.map(|path| vec![path.to_path_buf()]);
    let places = named.unwrap_or_else(|| BUNDLES.iter().map(PathBuf::from).collect());
    for place in &places {
        let Ok(text) = std::fs::read_to_string(place) else { continue };
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(pem::certificates(&text)?);
        if added > 0 {
            return Ok(store);
        }
    }
    let tried: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    Err(TlsError::NoRoots { tried: tried.join(", ") })
}

/// Settings of a client that checks chains and names against `roots`.
pub fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = builder().with_root_certificates(roots);
    http1(builder.with_no_client_auth())
}

/// Settings of a client that takes exactly the certificate of the pin: neither chain, name nor time are
/// looked at, the server's possession of the key is.
pub fn client_config_pinned(pin: Pin) -> Arc<ClientConfig> {
    unchained(Accept::Pinned(pin))
}

/// Settings of a client that takes any certificate. For health checks, whose protocol says so; never for
/// anything that carries a key.
pub fn client_config_unverified() -> Arc<ClientConfig> {
    unchained(Accept::Any)
}

fn unchained(accept: Accept) -> Arc<ClientConfig> {
    let verifier = Arc::new(LeafVerifier { accept, provider: provider() });
    let builder = builder().dangerous().with_custom_certificate_verifier(verifier);
    http1(builder.with_no_client_auth())
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default TLS versions")
}

fn http1(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

const PIN_MISMATCH: &str = "the server's certificate does not match the provided pin";

#[derive(Debug)]
enum Accept {
    Pinned(Pin),
    Any,
}

/// Looks at the leaf alone. Handshake signatures are verified all the same: without that, whoever has
/// seen a certificate could show it.
#[derive(Debug)]
struct LeafVerifier {
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LeafVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_wanted = match &self.accept {
            Accept::Pinned(pin) => Pin::of(leaf) == *pin,
            Accept::Any => true,
        };
        if is_wanted {
            return Ok(ServerCertVerified::assertion());
        }
        // The one variant whose text reaches people as it is.
        Err(rustls::Error::General(PIN_MISMATCH.to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
