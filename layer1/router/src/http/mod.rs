//! One HTTP request, from its head to the last byte of its response: match, clean, choose a backend,
//! forward, answer.

mod body;
mod forward;
mod reply;
mod request;
mod upgrade;

use std::sync::Arc;

use ::http::{Method, Request, Response, Version};
use hyper::body::Incoming;

pub(crate) use body::{ReplyBody, RequestBody};
pub(crate) use reply::Pages;

use crate::connection::Peer;
use crate::worker::Worker;

/// Answers one request.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    mut request: Request<Incoming>,
) -> Response<ReplyBody> {
    if request.version() == Version::HTTP_2 {
        request::from_http2(&mut request);
    }
    if let Err(refusal) = request::check(&mut request) {
        return reply::bad_request(refusal);
    }
    let host = request::host(&request);
    let port = peer.listener.match_port();
    let tables = &worker.shared.tables;
    let Some(target) = tables.find(worker.index, port, host, request.uri().path()) else {
        return reply::not_found();
    };
    if request.method() != Method::CONNECT && request::is_upgrade(&request) {
        return upgrade::serve(worker, peer, &target, request).await;
    }
    forward::serve(worker, peer, &target, request).await
}
