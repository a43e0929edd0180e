//! rustls settings of servers with one certificate. Servers with many (the router) bring a resolver of
//! their own.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;

use crate::{Identity, TlsError, provider};

/// Settings of a server that shows `identity` to everybody and speaks HTTP/1.1.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Certificate)?;
    let resolver = Arc::new(SingleCertAndKey::from(identity.certified_key()));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
