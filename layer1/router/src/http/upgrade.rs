//! Upgrades, websockets above all: a backend connection of its own, the request as it is, and after a
//! 101 raw bytes both ways.

use std::sync::Arc;

use ::http::header::CONNECTION;
use ::http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::body::{Forwarded, ReplyBody, RequestBody, in_time};
use super::forward::add_cookie;
use super::{reply, request};
use crate::connection::Peer;
use crate::pool::{self, Sender};
use crate::service::Lease;
use crate::sticky;
use crate::table::Target;
use crate::tunnel::tunnel;
use crate::worker::Worker;

/// Forwards a request that asks for an upgrade.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    target: &Arc<Target>,
    mut incoming: Request<Incoming>,
) -> Response<ReplyBody> {
    let client = hyper::upgrade::on(&mut incoming);
    request::remove_hop_by_hop(incoming.headers_mut(), true);
    request::add_forwarded(incoming.headers_mut(), worker, peer);
    let token =
        if target.sticky { sticky::token_of(incoming.headers()).map(str::to_owned) } else { None };
    let Some((lease, mut sender)) = connect(worker, target, token.as_deref()).await else {
        return close(worker.shared.pages.unavailable());
    };
    let outgoing = incoming.map(|body| RequestBody::client(body, worker));
    let (limit, upload) = (worker.shared.limits.response_head, outgoing.body().upload());
    let answer = sender.send_request(outgoing);
    let mut response = match in_time(limit, upload.as_deref(), answer).await {
        Some(Ok(response)) => response,
        Some(Err(error)) if error.is_user() => return reply::client_gone(),
        Some(Err(_)) | None => return close(worker.shared.pages.unavailable()),
    };
    if target.sticky {
        add_cookie(response.headers_mut(), token.as_deref(), &lease.backend);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(worker, client, lease, response);
    }
    refused(worker, lease, response)
}

/// Dials backends in random order, the sticky one first, until one accepts.
async fn connect(
    worker: &Arc<Worker>,
    target: &Target,
    token: Option<&str>,
) -> Option<(Lease, Sender)> {
    let backends = target.service.backends();
    for backend in backends.in_turn(target.leader, token, worker.seed(), worker.now()) {
        let Some(lease) = Lease::take(&backend) else { continue };
        match pool::connect(worker, &lease.backend).await {
            Ok(sender) => return Some((lease, sender)),
            Err(error) => tracing::debug!(service = %target.service.name,
                backend = %lease.backend.identity.addr, %error, "backend could not be dialled"),
        }
    }
    None
}

/// Passes the 101 on and joins both connections once the client's is free.
fn switch(
    worker: &Arc<Worker>,
    client: hyper::upgrade::OnUpgrade,
    lease: Lease,
    mut response: Response<Incoming>,
) -> Response<ReplyBody> {
    let backend = hyper::upgrade::on(&mut response);
    let lease = lease.into_tunnel();
    worker.tracker.spawn(async move {
        match tokio::try_join!(client, backend) {
            Ok((client, backend)) => tunnel(TokioIo::new(client), TokioIo::new(backend)).await,
            Err(error) => tracing::debug!(%error, "upgrade was not completed"),
        }
        drop(lease);
    });
    let (mut parts, _) = response.into_parts();
    request::remove_hop_by_hop(&mut parts.headers, true);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Response::from_parts(parts, ReplyBody::text(bytes::Bytes::new()))
}

/// A backend that does not upgrade: its answer is delivered and the connection closes.
fn refused(
    worker: &Arc<Worker>,
    lease: Lease,
    response: Response<Incoming>,
) -> Response<ReplyBody> {
    let (mut parts, body) = response.into_parts();
    request::remove_hop_by_hop(&mut parts.headers, false);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    close(Response::from_parts(
        parts,
        ReplyBody::backend(Forwarded::new(worker, lease, None, body)),
    ))
}

fn close(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
