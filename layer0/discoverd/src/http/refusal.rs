//! How a write that is not done is answered: by the registry's refusal, by the way to the leader, or by
//! "try again".

use axum::response::{IntoResponse, Response};
use discoverd_api::{InstanceError, ServiceNameError};
use discoverd_registry::Refusal;
use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, StatusCode, Uri};
use kit_http::{ApiError, ErrorCode};

use super::Context;
use crate::raft::{Leadership, MembershipError, ProposeError};

/// The answer to a request that was not done.
#[derive(Debug)]
pub(super) enum NotDone {
    Api(ApiError),
    /// The leader does it.
    Elsewhere(String),
}

impl NotDone {
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::Api(ApiError::object_not_found(message))
    }

    fn no_leader() -> Self {
        Self::Api(ApiError::service_unavailable("discoverd: no known leader"))
    }
}

impl IntoResponse for NotDone {
    fn into_response(self) -> Response {
        match self {
            Self::Api(error) => error.into_response(),
            Self::Elsewhere(location) => {
                (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response()
            }
        }
    }
}

impl From<ApiError> for NotDone {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<ServiceNameError> for NotDone {
    fn from(error: ServiceNameError) -> Self {
        Self::Api(ApiError::validation_plain(error.to_string()))
    }
}

impl From<InstanceError> for NotDone {
    fn from(error: InstanceError) -> Self {
        Self::Api(ApiError::validation_plain(error.to_string()))
    }
}

/// The registry's refusal with the code of the wire.
pub(super) fn refused(refusal: &Refusal) -> ApiError {
    let code = match refusal {
        Refusal::ServiceExists(_) | Refusal::MetaExists(_) => ErrorCode::ObjectExists,
        Refusal::ServiceNotFound(_) => ErrorCode::ObjectNotFound,
        Refusal::MetaNotFound(_) | Refusal::MetaChanged(_) => ErrorCode::PreconditionFailed,
        Refusal::NotManual => ErrorCode::Validation,
    };
    ApiError::new(code, refusal.to_string())
}

/// A change of voters that was not made, wherever it was asked for.
pub(super) fn refused_change(error: &MembershipError) -> ApiError {
    match error {
        MembershipError::Refused(_) => ApiError::conflict(error.to_string()),
        MembershipError::NotLeader(_) | MembershipError::Failed(_) => {
            ApiError::service_unavailable(error.to_string())
        }
    }
}

/// Where a request was meant to go: what a redirect to the leader keeps of it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    uri: Uri,
    host: Option<HeaderValue>,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Target {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { uri: parts.uri.clone(), host: parts.headers.get(HOST).cloned() })
    }
}

impl Target {
    /// Goes on only where this server leads.
    pub(super) fn here(&self, context: &Context) -> Result<(), NotDone> {
        match context.node.leadership() {
            Leadership::Me => Ok(()),
            elsewhere @ (Leadership::Other(_) | Leadership::Unknown) => {
                Err(self.elsewhere(&elsewhere))
            }
        }
    }

    /// What a command that was not carried out is answered with.
    pub(super) fn not_done(&self, error: ProposeError) -> NotDone {
        match error {
            ProposeError::Refused(refusal) => NotDone::Api(refused(&refusal)),
            ProposeError::NotLeader(leadership) => self.elsewhere(&leadership),
            ProposeError::Unconfirmed => NotDone::Api(ApiError::service_unavailable(
                "discoverd: the write was not confirmed",
            )),
        }
    }

    /// [`not_done`](Self::not_done) for what must not be done twice. A server that stopped leading cannot
    /// tell what becomes of a command it took, so the client is sent nowhere and told not to repeat it.
    pub(super) fn not_done_once(&self, error: ProposeError) -> NotDone {
        match error {
            ProposeError::Refused(_) => self.not_done(error),
            ProposeError::NotLeader(_) | ProposeError::Unconfirmed => NotDone::Api(
                ApiError::service_unavailable(
                    "discoverd: the write was not confirmed, it may have been done: read again",
                )
                .with_retry(false),
            ),
        }
    }

    /// What a change of voters that was not carried out is answered with.
    pub(super) fn unchanged(&self, error: MembershipError) -> NotDone {
        match error {
            MembershipError::NotLeader(leadership) => self.elsewhere(&leadership),
            error @ (MembershipError::Refused(_) | MembershipError::Failed(_)) => {
                NotDone::Api(refused_change(&error))
            }
        }
    }

    /// The leader's host with the port the client used: it may reach us by another one than members do.
    fn elsewhere(&self, leadership: &Leadership) -> NotDone {
        let Leadership::Other(leader) = leadership else { return NotDone::no_leader() };
        let host = leader.rsplit_once(':').map_or(leader.as_str(), |(host, _)| host);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        match self.host.as_ref().and_then(port_asked) {
            Some(port) => NotDone::Elsewhere(format!("http://{host}:{port}{path}")),
            None => NotDone::Elsewhere(format!("http://{leader}{path}")),
        }
    }
}

fn port_asked(host: &HeaderValue) -> Option<u16> {
    host.to_str().ok()?.parse::<http::uri::Authority>().ok()?.port_u16()
}
