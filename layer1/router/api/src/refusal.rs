//! Why a route is refused, in the words and with the codes clients know. Whoever answers a request
//! adds the status: `conflict` is 409, `validation_error` 400.

use crate::CertificateProblem;

/// The field named when a body's `type` is missing or unknown.
pub const TYPE_FIELD: &str = "type";

/// The message of that refusal, after the field's name.
pub const TYPE_MESSAGE: &str =
    "Enum error. The data must be equal to one of these values [http tcp].";

/// Why a request's body is no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteBodyError {
    /// `type` is missing or neither `http` nor `tcp`: [`TYPE_FIELD`], [`TYPE_MESSAGE`].
    #[error("{TYPE_FIELD} {TYPE_MESSAGE}")]
    Type,
    /// Not JSON, not an object, or a member of the wrong kind.
    #[error("the body is no route")]
    Json(#[source] serde_json::Error),
}

/// Why a well-formed route is refused. The message is what clients show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    /// A live route has the same domain and path, or the same TCP port.
    #[error("Duplicate route")]
    Duplicate,
    /// TCP port 80 or 443.
    #[error("Port reserved for HTTP/HTTPS traffic")]
    ReservedPort,
    /// A rule of form, of paths or of draining is broken; the reason is for the log and the hint.
    #[error("Invalid route")]
    Invalid(&'static str),
    /// Certificate and key do not form a pair.
    #[error("Certificate invalid: {0}")]
    Certificate(CertificateProblem),
    /// A `/` route whose domain still has routes of longer paths cannot be deleted.
    #[error("Route has dependent routes")]
    Dependents,
}

impl RouteRefusal {
    /// The error code on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Duplicate | Self::ReservedPort => "conflict",
            Self::Invalid(_) | Self::Certificate(_) | Self::Dependents => "validation_error",
        }
    }

    /// Whether the answer carries the route as its `detail`.
    pub fn has_detail(&self) -> bool {
        match self {
            Self::Duplicate | Self::ReservedPort | Self::Invalid(_) => true,
            Self::Certificate(_) | Self::Dependents => false,
        }
    }

    /// What exactly is wrong, where the message does not say it.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(reason) => Some(reason),
            Self::Duplicate | Self::ReservedPort | Self::Certificate(_) | Self::Dependents => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_clients_expect() {
        for (refusal, code, text) in [
            (RouteRefusal::Duplicate, "conflict", "Duplicate route"),
            (RouteRefusal::ReservedPort, "conflict", "Port reserved for HTTP/HTTPS traffic"),
            (RouteRefusal::Invalid("x"), "validation_error", "Invalid route"),
            (RouteRefusal::Dependents, "validation_error", "Route has dependent routes"),
            (
                RouteRefusal::Certificate(CertificateProblem::KeyMismatch),
                "validation_error",
                "Certificate invalid: tls: private key does not match public key",
            ),
            (
                RouteRefusal::Certificate(CertificateProblem::NoCertificate),
                "validation_error",
                "Certificate invalid: tls: failed to find any PEM data in certificate input",
            ),
            (
                RouteRefusal::Certificate(CertificateProblem::NoKey),
                "validation_error",
                "Certificate invalid: tls: failed to find any PEM data in key input",
            ),
        ] {
            assert_eq!((refusal.code(), refusal.to_string().as_str()), (code, text));
        }
        assert_eq!(
            RouteBodyError::Type.to_string(),
            "type Enum error. The data must be equal to one of these values [http tcp]."
        );
    }
}
