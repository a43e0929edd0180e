//! Certificates of routes: checked to be a pair, stored once per text.

use controller_api::Certificate;
use kit_pg::Row;
use kit_tls::{Identity, TlsError};
use router_api::{CertificateId, CertificateProblem, PrivateKeyPem, RouteRefusal};
use sha2::Digest as _;

use crate::change::Change;
use crate::failure::{Answer, Failure};
use crate::rows;

/// The certificate as it is stored. Of two with the same text the first one stays, with its key: both
/// keys fit the certificate, so they are the same key.
pub(crate) async fn store(change: &Change<'_>, pair: Certificate) -> Answer<Certificate> {
    check(&pair)?;
    let query = "INSERT INTO certificates (cert, key, cert_sha256) VALUES ($1, $2, $3) \
         ON CONFLICT (cert_sha256) DO UPDATE SET cert = certificates.cert \
         RETURNING id::text AS certificate_id, cert, key, \
           created_at AS cert_created_at, updated_at AS cert_updated_at";
    let digest = sha2::Sha256::digest(&pair.cert).to_vec();
    let row = change.tx().query_one(query, &[&pair.cert, &pair.key.expose(), &digest]).await?;
    from_columns(&row, rows::parsed(&row, "certificate_id")?)
}

/// The certificate of a joined row.
pub(crate) fn from_columns(row: &Row, id: CertificateId) -> Answer<Certificate> {
    Ok(Certificate {
        id: Some(id),
        routes: Vec::new(),
        cert: rows::text(row, "cert")?,
        key: PrivateKeyPem::new(row.try_get("key")?),
        created_at: row.try_get("cert_created_at")?,
        updated_at: row.try_get("cert_updated_at")?,
    })
}

fn check(pair: &Certificate) -> Answer<()> {
    let read = Identity::from_pem(&pair.cert, pair.key.expose());
    read.map(drop)
        .map_err(|error| Failure::invalid(RouteRefusal::Certificate(problem(&error)).to_string()))
}

fn problem(error: &TlsError) -> CertificateProblem {
    match error {
        TlsError::KeyMismatch => CertificateProblem::KeyMismatch,
        TlsError::Missing { begin, .. } if *begin == "CERTIFICATE" => {
            CertificateProblem::NoCertificate
        }
        TlsError::Missing { .. } => CertificateProblem::NoKey,
        TlsError::Pem { .. }
        | TlsError::Key(_)
        | TlsError::Certificate(_)
        | TlsError::Name { .. }
        | TlsError::Make { .. }
        | TlsError::NoRoots { .. } => CertificateProblem::Unusable(error.to_string()),
    }
}
