//! TLS of the HTTPS listeners: key pairs parsed and checked once, held in memory, chosen by server
//! name from the published table.

use std::fmt;
use std::sync::Arc;

use router_api::CertificateProblem;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::table::Tables;

/// Parses a key pair and checks that its halves belong together.
pub(crate) fn certified_key(
    cert: &str,
    key: &str,
) -> Result<Arc<CertifiedKey>, CertificateProblem> {
    let unusable = |error: &dyn fmt::Display| CertificateProblem::Unusable(error.to_string());
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(&error))?;
    if chain.is_empty() {
        return Err(CertificateProblem::NoCertificate);
    }
    let key = match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
        Ok(key) => key,
        Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(CertificateProblem::NoKey),
        Err(error) => return Err(unusable(&error)),
    };
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateProblem::KeyMismatch),
        Err(error) => Err(unusable(&error)),
    }
}

/// TLS for all HTTPS listeners of one port number: the same tickets for all workers.
pub(crate) fn server_config(
    tables: &Arc<Tables>,
    port: u16,
    default: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let resolver = ByServerName { tables: tables.clone(), port, default };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The route of the name decides: its pair, or the cluster's. An unrouted name gets none, so that its
/// handshake fails; a client without a name gets the cluster's.
struct ByServerName {
    tables: Arc<Tables>,
    port: u16,
    default: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return self.default.clone() };
        let own = self.tables.certificate(self.port, name)?;
        own.or_else(|| self.default.clone())
    }
}

impl fmt::Debug for ByServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByServerName").field("port", &self.port).finish_non_exhaustive()
    }
}
