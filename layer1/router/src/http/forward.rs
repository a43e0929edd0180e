//! Forwarding: one backend after the other until one accepts a connection; after that exactly one is
//! hit. A kept connection that turns out dead is replaced by a fresh one to the same backend, if
//! nothing was sent or the request can be sent twice.

use std::sync::Arc;

use ::http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;

use super::body::{Forwarded, ReplyBody, RequestBody, in_time};
use super::{reply, request};
use crate::connection::Peer;
use crate::pool::{Sender, connect};
use crate::service::{Backend, Lease, Search};
use crate::sticky;
use crate::table::Target;
use crate::worker::Worker;

/// A request that cannot be repeated only gets a kept connection that was used within this many
/// ticks: a backend that closes idle connections may be closing an older one right now.
const FRESH_TICKS: u64 = 1;

/// Forwards a request that is no upgrade.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    target: &Arc<Target>,
    mut incoming: Request<Incoming>,
) -> Response<ReplyBody> {
    request::remove_hop_by_hop(incoming.headers_mut(), false);
    request::add_forwarded(incoming.headers_mut(), worker, peer);
    *incoming.version_mut() = Version::HTTP_11;
    let token =
        if target.sticky { sticky::token_of(incoming.headers()).map(str::to_owned) } else { None };
    let outgoing = incoming.map(|body| RequestBody::client(body, worker));
    let sent = send(worker, target, token.as_deref(), outgoing).await;
    let (lease, sender, response) = match sent {
        Ok(sent) => sent,
        Err(Failure::Client) => return reply::client_gone(),
        Err(Failure::Backend) => return worker.shared.pages.unavailable(),
    };
    finish(worker, target, token.as_deref(), lease, sender, response)
}

/// Why there is no response.
#[derive(Debug)]
enum Failure {
    /// The client's body broke off.
    Client,
    /// No backend, none that could be reached, or one that failed before its response's head.
    Backend,
}

type Sent = (Lease, Sender, Response<Incoming>);

/// Finds a backend that accepts a connection and sends it the request.
async fn send(
    worker: &Arc<Worker>,
    target: &Arc<Target>,
    token: Option<&str>,
    mut outgoing: Request<RequestBody>,
) -> Result<Sent, Failure> {
    let mut search = Search::new(&target.service, target.leader, worker.seed(), worker.now());
    while let Some(lease) = search.next(token) {
        let backend = lease.backend.clone();
        if !target.disable_keep_alives
            && let Some(sender) = kept(worker, &backend, &outgoing)
        {
            match over_kept(worker, sender, outgoing).await {
                Ok((sender, response)) => return Ok((lease, sender, response)),
                Err(Kept::Final(failure)) => return Err(failure),
                Err(Kept::Again(request)) => outgoing = *request,
            }
        }
        match connect(worker, &backend).await {
            Ok(sender) => {
                let (sender, response) = over_fresh(worker, &backend, sender, outgoing).await?;
                return Ok((lease, sender, response));
            }
            Err(error) => tracing::debug!(service = %target.service.name,
                backend = %backend.identity.addr, %error, "backend could not be dialled"),
        }
    }
    Err(Failure::Backend)
}

/// A kept connection that suits the request.
fn kept(worker: &Worker, backend: &Backend, request: &Request<RequestBody>) -> Option<Sender> {
    let max_age = if is_repeatable(request) { worker.idle_backend_ticks } else { FRESH_TICKS };
    backend.pool.take(worker.index, worker.now(), max_age)
}

/// Without a body, and of a method that does the same when done twice.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let idempotent =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
    request.body().is_none() && idempotent.contains(request.method())
}

/// What became of a request on a kept connection that gave no response.
enum Kept {
    /// The connection was dead: this request can go over a fresh one.
    Again(Box<Request<RequestBody>>),
    Final(Failure),
}

async fn over_kept(
    worker: &Worker,
    mut sender: Sender,
    outgoing: Request<RequestBody>,
) -> Result<(Sender, Response<Incoming>), Kept> {
    let copy = is_repeatable(&outgoing).then(|| Copy::of(&outgoing));
    let (limit, upload) = (worker.shared.limits.response_head, outgoing.body().upload());
    let answer = sender.try_send_request(outgoing);
    let Some(answer) = in_time(limit, upload.as_deref(), answer).await else {
        return Err(Kept::Final(Failure::Backend));
    };
    let mut error = match answer {
        Ok(response) => return Ok((sender, response)),
        Err(error) => error,
    };
    let unsent = error.take_message().or_else(|| copy.map(Copy::request));
    match unsent {
        Some(request) => Err(Kept::Again(Box::new(request))),
        None => Err(Kept::Final(failure(error.error()))),
    }
}

async fn over_fresh(
    worker: &Worker,
    backend: &Backend,
    mut sender: Sender,
    outgoing: Request<RequestBody>,
) -> Result<(Sender, Response<Incoming>), Failure> {
    let (limit, upload) = (worker.shared.limits.response_head, outgoing.body().upload());
    let answer = sender.send_request(outgoing);
    match in_time(limit, upload.as_deref(), answer).await {
        Some(Ok(response)) => Ok((sender, response)),
        Some(Err(error)) => {
            tracing::debug!(backend = %backend.identity.addr, %error, "backend did not answer");
            Err(failure(&error))
        }
        None => {
            tracing::warn!(backend = %backend.identity.addr, "backend sent no response in time");
            Err(Failure::Backend)
        }
    }
}

fn failure(error: &hyper::Error) -> Failure {
    // The only user of the client connection's hands is the client's body.
    if error.is_user() { Failure::Client } else { Failure::Backend }
}

/// A head that can be sent again; the body is empty.
struct Copy {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Copy {
    fn of(request: &Request<RequestBody>) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, headers: request.headers().clone() }
    }

    fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::none());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

/// The backend's response as the client gets it.
fn finish(
    worker: &Arc<Worker>,
    target: &Target,
    token: Option<&str>,
    lease: Lease,
    sender: Sender,
    response: Response<Incoming>,
) -> Response<ReplyBody> {
    if response.status() == ::http::StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it, so nobody could make sense of what follows.
        return worker.shared.pages.unavailable();
    }
    let (mut parts, body) = response.into_parts();
    request::remove_hop_by_hop(&mut parts.headers, false);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if target.sticky {
        add_cookie(&mut parts.headers, token, &lease.backend);
    }
    let sender = Some(sender).filter(|_| !target.disable_keep_alives);
    let body = ReplyBody::backend(Forwarded::new(worker, lease, sender, body));
    Response::from_parts(parts, body)
}

/// Tells the client its backend, unless it knows.
pub(super) fn add_cookie(headers: &mut HeaderMap, token: Option<&str>, backend: &Backend) {
    if token != Some(backend.token.as_str())
        && let Some(cookie) = sticky::set_cookie(&backend.token)
    {
        headers.append(::http::header::SET_COOKIE, cookie);
    }
}
