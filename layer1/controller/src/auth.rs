//! Who may come in, and what every request meets before its handler: cross-origin headers, the two
//! paths without a key, superfluous slashes, and a database that is not there yet. A build comes in with
//! its token for one thing: telling of the artifact it made.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION, ORIGIN};
use http::{HeaderMap, Method, StatusCode};
use kit_auth::{Credentials, Holder};
use kit_clock::{Clock as _, SystemClock};

use crate::server::Controller;

const CA_CERT: &str = "/ca-cert";
const PING: &str = "/ping";
const ARTIFACTS: &str = "/artifacts";

/// The order is that of spec/controller.md §2.
pub(crate) async fn admit(
    State(controller): State<Controller>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = match &origin {
        Some(_) if is_preflight => StatusCode::OK.into_response(),
        Some(_) | None => decide(&controller, request, next).await,
    };
    if let Some(origin) = origin {
        allow_origin(response.headers_mut(), origin);
    }
    response
}

async fn decide(controller: &Controller, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == PING {
        return StatusCode::OK.into_response();
    }
    let credentials = credentials(request.headers());
    let is_public = path == CA_CERT && shows_nothing(request.headers(), credentials.as_ref());
    let now = SystemClock::start().wall();
    match credentials.and_then(|given| controller.config().keys.holder(&given, now)) {
        Some(Holder::Key) => {}
        Some(Holder::Build(scope)) if request.method() == Method::POST && path == ARTIFACTS => {
            request.extensions_mut().insert(scope);
        }
        None if is_public => {}
        Some(Holder::Build(_)) | None => return StatusCode::UNAUTHORIZED.into_response(),
    }
    let path = request.uri().path();
    if path.len() > 1 && path.ends_with('/') {
        return without_slash(&request);
    }
    let needs_database = path != CA_CERT && path != kit_http::STATUS_PATH;
    if needs_database && !controller.is_ready() {
        let text = "the database is not available yet, try again";
        return kit_http::ApiError::service_unavailable(text).into_response();
    }
    next.run(request).await
}

fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    Credentials::parse(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// No key at all, as opposed to a wrong one.
fn shows_nothing(headers: &HeaderMap, credentials: Option<&Credentials>) -> bool {
    match credentials {
        None => !headers.contains_key(AUTHORIZATION),
        Some(Credentials::Basic { password, .. }) => password.is_empty(),
        Some(Credentials::Bearer(_)) => false,
    }
}

/// Sends the client to the same path without its last slashes.
fn without_slash(request: &Request) -> Response {
    // More than one slash at the start would name another host.
    let path = format!("/{}", request.uri().path().trim_matches('/'));
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let Ok(location) = HeaderValue::from_str(&target) else {
        return kit_http::not_found();
    };
    if request.method() != Method::GET {
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response();
    }
    let shown = target.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;");
    let page = format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n");
    (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)], axum::response::Html(page))
        .into_response()
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    let fixed = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST,PUT,PATCH,DELETE,HEAD"),
        (
            "access-control-allow-headers",
            "Auth-Key,Authorization,Accept,Content-Type,If-Match,If-None-Match,X-GRPC-Web",
        ),
        ("access-control-expose-headers", "ETag,Content-Disposition"),
        ("access-control-max-age", "3600"),
    ];
    headers.insert(HeaderName::from_static("access-control-allow-origin"), origin);
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
