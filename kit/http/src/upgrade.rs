//! Connections that leave HTTP behind with a `101`: attach, and whatever else wants raw bytes both ways.
//! The frames of such protocols are their owners'.

use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;

/// A connection after its `101`, on either side.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// How long the other side may take to complete an upgrade.
pub(crate) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's half of an upgrade: ready once the `101` is on its way.
#[derive(Debug)]
pub struct Upgrading(hyper::upgrade::OnUpgrade);

impl Upgrading {
    /// Waits for the connection. Await it in a task of its own, never in the handler: the connection is
    /// handed over only after the handler's response was sent.
    pub async fn connection(self) -> std::io::Result<Upgraded> {
        complete(self.0).await
    }
}

/// Answers `101` for `protocol` and hands out the connection to come. Read the request's body first.
/// A request that came without upgrade headers makes [`Upgrading::connection`] fail.
pub fn accept_upgrade(request: &mut Request, protocol: &'static str) -> (Response, Upgrading) {
    let upgrading = Upgrading(hyper::upgrade::on(request));
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static(protocol)),
    ];
    ((StatusCode::SWITCHING_PROTOCOLS, headers).into_response(), upgrading)
}

pub(crate) async fn complete(upgrade: hyper::upgrade::OnUpgrade) -> std::io::Result<Upgraded> {
    match tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await {
        Ok(Ok(connection)) => Ok(TokioIo::new(connection)),
        Ok(Err(error)) => Err(std::io::Error::other(error)),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}
