//! The cluster's own certificate authority.

use std::fmt;
use std::time::Duration;

use kit_clock::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::{Identity, TlsError};

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: Wall,
    not_after: Wall,
}

/// Hosts' clocks differ: certificates hold from a little before they were made.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

impl Validity {
    /// `span` long from `now` on.
    pub fn starting(now: Wall, span: Duration) -> Self {
        let start = now.since_epoch().saturating_sub(CLOCK_SKEW);
        let end = now.since_epoch().saturating_add(span);
        Self { not_before: Wall::from_epoch(start), not_after: Wall::from_epoch(end) }
    }

    fn apply(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + self.not_before.since_epoch();
        params.not_after = epoch + self.not_after.since_epoch();
    }
}

/// A certificate authority with its key.
pub struct Authority {
    cert_pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority.
    pub fn generate(name: &str, validity: Validity) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Make { what: "certificate authority", source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity.apply(&mut params);
        let cert_pem = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { cert_pem, key })
    }

    /// The authority that was written out before.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        // Refuses a key of another certificate and texts that are no PEM, with errors for people.
        Identity::from_pem(cert_pem, key_pem)?;
        let failed = |source| TlsError::Make { what: "certificate authority", source };
        let key = KeyPair::from_pem(key_pem).map_err(failed)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), key })
    }

    /// The certificate, which clients trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key. A secret.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server certificate for host names, wildcards and IP addresses. Its chain is the leaf and the
    /// authority's own certificate.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<Identity, TlsError> {
        let failed = |source| TlsError::Make { what: "certificate", source };
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, &self.key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = leaf_params(names)?;
        validity.apply(&mut params);
        let leaf = params.signed_by(&key, &issuer).map_err(failed)?;
        let chain = format!("{}{}", leaf.pem(), self.cert_pem);
        Identity::from_pem(&chain, &key.serialize_pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

fn leaf_params(names: &[&str]) -> Result<CertificateParams, TlsError> {
    for name in names {
        if !is_cert_name(name) {
            return Err(TlsError::Name { name: (*name).to_owned() });
        }
    }
    let Some(first) = names.first() else { return Err(TlsError::Name { name: String::new() }) };
    let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(owned);
    let mut params = params.map_err(|source| TlsError::Make { what: "certificate", source })?;
    // The common name is for people; its bound is 64 characters, clients look at the names alone.
    params.distinguished_name = named(&first.chars().take(64).collect::<String>());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Whether a name is one that a certificate can be asked for: an address, or a host name whose first
/// label may be `*`.
fn is_cert_name(name: &str) -> bool {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    !host.starts_with('.') && rustls::pki_types::DnsName::try_from(host).is_ok()
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Flynn");
    distinguished.push(DnType::CommonName, name);
    distinguished
}
