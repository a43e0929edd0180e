//! The cluster's certificate: the given one, or one of an authority made for it.

use std::time::Duration;

use kit_clock::{Clock as _, SystemClock};
use kit_tls::{Authority, Identity, Validity};
use serde::{Deserialize, Serialize};

use super::{ActionError, Context};
use crate::steps::CertificateSpec;

/// How long the cluster's own certificates hold. Renewing them is an operator's decision, because
/// clients hold the pin.
const VALID_FOR: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// What later steps use. The key is a secret.
#[derive(Serialize, Deserialize)]
struct Certificate {
    #[serde(rename = "CACert")]
    ca_cert: String,
    #[serde(rename = "Cert")]
    cert: String,
    #[serde(rename = "PrivateKey")]
    private_key: String,
    #[serde(rename = "Pin")]
    pin: String,
}

/// Makes a certificate, unless an interrupted run made it already; says its pin.
pub(super) fn make(
    spec: &CertificateSpec,
    context: &mut Context<'_>,
) -> Result<String, ActionError> {
    let certificate = match context.record.data::<Certificate>(context.step)? {
        Some(certificate) => certificate,
        None => {
            let certificate = given_or_new(spec, context)?;
            context.record.keep(context.step, &certificate)?;
            certificate
        }
    };
    Ok(format!("pin: {}", certificate.pin))
}

fn given_or_new(spec: &CertificateSpec, context: &Context<'_>) -> Result<Certificate, ActionError> {
    let ca_cert = context.resolve(&spec.ca_cert)?;
    let (cert, key) = (context.resolve(&spec.cert)?, context.resolve(&spec.key)?);
    if [&ca_cert, &cert, &key].iter().all(|text| !text.is_empty()) {
        return Ok(written(ca_cert, &Identity::from_pem(&cert, &key)?));
    }
    let validity = Validity::starting(SystemClock::start().wall(), VALID_FOR);
    let authority = Authority::generate("Flynn", validity)?;
    let hosts: Vec<_> =
        spec.hosts.iter().map(|host| context.resolve(host)).collect::<Result<_, _>>()?;
    let names: Vec<_> = hosts.iter().map(String::as_str).collect();
    let identity = authority.issue(&names, validity)?;
    Ok(written(authority.cert_pem().to_owned(), &identity))
}

fn written(ca_cert: String, identity: &Identity) -> Certificate {
    Certificate {
        ca_cert,
        cert: identity.chain_pem().to_owned(),
        private_key: identity.key_pem().to_owned(),
        pin: identity.pin().to_string(),
    }
}
