//! What a request asks for, and what a refusal looks like. The order in which things are checked is
//! `server`'s.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kit_auth::{Credentials, Keys};

/// The two services of git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Fetching.
    UploadPack,
    /// Pushing.
    ReceivePack,
}

impl Service {
    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    /// git's subcommand.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.name() == name)
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The refs; none when the service is not one of ours.
    Advertisement(Option<Service>),
    /// The service itself.
    Rpc(Service),
}

/// A request of git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The app's name or id.
    pub(crate) app: String,
    pub(crate) wish: Wish,
}

impl Ask {
    /// Reads method, path and query; none for what git never asks.
    pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let (app, what) = rest.split_once('/')?;
        let wish = match (method, what) {
            (&Method::GET, "info/refs") => Wish::Advertisement(service(query)),
            (&Method::POST, what) => Wish::Rpc(Service::of(what)?),
            _ => return None,
        };
        let app = app.strip_suffix(".git").unwrap_or(app);
        is_name(app).then(|| Self { app: app.to_owned(), wish })
    }
}

fn service(query: &str) -> Option<Service> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == "service").find_map(|(_, name)| Service::of(name))
}

/// `^[a-z\d]+(-[a-z\d]+)*$`
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.split('-').all(|part| !part.is_empty() && part.bytes().all(plain))
}

/// Whether a request shows one of the keys.
pub(crate) fn is_admitted(headers: &HeaderMap, keys: &Keys) -> bool {
    let header = headers.get(axum::http::header::AUTHORIZATION);
    let credentials = header.and_then(|value| Credentials::parse(value.to_str().ok()?));
    credentials.is_some_and(|credentials| keys.accept(&credentials))
}

/// Why a request is not answered as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unauthorized,
    Forbidden,
    UnknownApp,
    DumbProtocol,
    NotGzip,
    Busy,
    Internal,
}

impl Refusal {
    fn status_and_text(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Authentication required\n"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "Forbidden\n"),
            Self::UnknownApp => (StatusCode::NOT_FOUND, "unknown app\n"),
            Self::DumbProtocol => (StatusCode::NOT_FOUND, "Not Found\n"),
            Self::NotGzip => (StatusCode::BAD_REQUEST, "the request is not gzip, as it says\n"),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "another push to this app is in progress, or too many to other apps: try again\n",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal server error\n"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = self.status_and_text();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if self == Self::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_asks_in_three_ways_and_nobody_else_is_answered() {
        let refs = |service| Some(Wish::Advertisement(service));
        let receive = Some(Service::ReceivePack);
        for (method, path, query, want) in [
            (Method::GET, "/app.git/info/refs", "service=git-receive-pack", refs(receive)),
            (Method::GET, "/app/info/refs", "a=b&service=git-receive-pack", refs(receive)),
            (Method::GET, "/app.git/info/refs", "", refs(None)),
            (Method::GET, "/app.git/info/refs", "service=git-archive", refs(None)),
            (Method::POST, "/a-1.git/git-upload-pack", "", Some(Wish::Rpc(Service::UploadPack))),
            (Method::POST, "/app.git/info/refs", "", None),
            (Method::GET, "/app.git/git-upload-pack", "", None),
            (Method::GET, "/app.git/HEAD", "", None),
            (Method::GET, "/info/refs", "", None),
            (Method::GET, "/App.git/info/refs", "", None),
            (Method::GET, "/a--b.git/info/refs", "", None),
            (Method::GET, "/../x.git/info/refs", "", None),
            (Method::GET, "/", "", None),
        ] {
            let ask = Ask::parse(&method, path, query);
            assert_eq!(ask.map(|ask| ask.wish), want, "{method} {path}");
        }
        let id = "/0f0e0d0c-1111-4222-8333-abcdefabcdef.git/info/refs";
        assert!(Ask::parse(&Method::GET, id, "").is_some());
    }
}
