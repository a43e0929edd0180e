//! The route object of the controller's API, in the one form it has for requests, answers and
//! events; what a body must be to become one; the rules that need no database.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use kit_ids::RouteId;
use serde::{Deserialize, Serialize};

use crate::refusal::{RouteBodyError, RouteRefusal};
use crate::time::zero_time;
use crate::{Certificate, PrivateKeyPem};

/// The ports a TCP route without one is given a free one of.
pub const TCP_PORTS: RangeInclusive<u16> = 3000..=3500;

const MAX_NAME: usize = 255;
const MAX_TCP_PORT: i64 = 65_534;

/// From a domain (and path) or a TCP port to a discovery service. The order of the fields is the
/// order of the keys on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `http` or `tcp`.
    #[serde(rename = "type")]
    pub kind: RouteKind,
    /// Made by the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RouteId>,
    /// `controller/apps/<app id>`; empty for a route of no app.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent_ref: String,
    /// The discovery service requests go to.
    #[serde(default)]
    pub service: String,
    /// TCP: the port listened on. HTTP: 0, the default ports.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port: i64,
    /// Whether only the service's leader is a backend.
    #[serde(default)]
    pub leader: bool,
    /// Year 1 until stored.
    #[serde(with = "crate::time", default = "zero_time")]
    pub created_at: DateTime<Utc>,
    /// Year 1 until stored.
    #[serde(with = "crate::time", default = "zero_time")]
    pub updated_at: DateTime<Utc>,
    /// HTTP: a host name, `*.name` or `*`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// HTTP: the key pair TLS clients get; without one, the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Deprecated form of `certificate.cert`, in requests and the answer to a create.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tls_cert: String,
    /// Deprecated form of `certificate.key`, likewise.
    #[serde(default, skip_serializing_if = "PrivateKeyPem::is_empty")]
    pub tls_key: PrivateKeyPem,
    /// HTTP: whether a client stays with its backend by a cookie.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sticky: bool,
    /// HTTP: `/` or `/…/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Whether a backend that goes down is reported as drained once its requests have ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub drain_backends: bool,
    /// HTTP: a new connection to the backend for every request.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disable_keep_alives: bool,
}

impl Route {
    /// An HTTP route of the whole domain, with everything else at its default.
    pub fn http(domain: &str, service: &str) -> Self {
        Self { domain: domain.to_owned(), ..Self::empty(RouteKind::Http, service) }
    }

    /// A TCP route; port 0 asks for a free one.
    pub fn tcp(port: u16, service: &str) -> Self {
        Self { port: i64::from(port), ..Self::empty(RouteKind::Tcp, service) }
    }

    fn empty(kind: RouteKind, service: &str) -> Self {
        Self {
            kind,
            id: None,
            parent_ref: String::new(),
            service: service.to_owned(),
            port: 0,
            leader: false,
            created_at: zero_time(),
            updated_at: zero_time(),
            domain: String::new(),
            certificate: None,
            tls_cert: String::new(),
            tls_key: PrivateKeyPem::default(),
            sticky: false,
            path: String::new(),
            drain_backends: false,
            disable_keep_alives: false,
        }
    }

    /// The body of `POST /apps/A/routes`. The type is looked at before anything else; an id is
    /// ignored, whatever it is; null counts as absent.
    pub fn from_create_body(body: &[u8]) -> Result<Self, RouteBodyError> {
        let mut object = object(body)?;
        let kind = object.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
        kind.parse::<RouteKind>().map_err(|_| RouteBodyError::Type)?;
        object.remove("id");
        serde_json::from_value(object.into()).map_err(RouteBodyError::Json)
    }

    /// The body of `PUT /apps/A/routes/:type/:id`: type and id are those of the path.
    pub fn from_update_body(
        body: &[u8],
        kind: RouteKind,
        id: RouteId,
    ) -> Result<Self, RouteBodyError> {
        let mut object = object(body)?;
        object.insert("type".to_owned(), kind.as_str().into());
        object.remove("id");
        let route: Self = serde_json::from_value(object.into()).map_err(RouteBodyError::Json)?;
        Ok(Self { id: Some(id), ..route })
    }

    /// The rules that need nothing but the route itself: names, port, form of the path.
    pub fn check(&self) -> Result<(), RouteRefusal> {
        check_name(&self.service, "the service must have 1 to 255 characters")?;
        match self.kind {
            RouteKind::Http => self.check_http(),
            RouteKind::Tcp => self.check_tcp(),
        }
    }

    fn check_http(&self) -> Result<(), RouteRefusal> {
        if self.port != 0 {
            return Err(RouteRefusal::Invalid("an http route cannot have a port of its own"));
        }
        check_name(&self.domain, "the domain must have 1 to 255 characters")?;
        normal_path(&self.path).map(drop)
    }

    fn check_tcp(&self) -> Result<(), RouteRefusal> {
        match self.port {
            80 | 443 => Err(RouteRefusal::ReservedPort),
            0..=MAX_TCP_PORT => Ok(()),
            _ => Err(RouteRefusal::Invalid("a tcp route's port must be 1 to 65534")),
        }
    }

    /// The key pair the request asks for, trimmed: the deprecated fields win if either is set; an
    /// empty object counts as none.
    pub fn wanted_certificate(&self) -> Option<Certificate> {
        if !self.tls_cert.is_empty() || !self.tls_key.is_empty() {
            return Some(Certificate::new(&self.tls_cert, self.tls_key.expose()));
        }
        let given = self.certificate.as_ref().filter(|given| !given.is_empty())?;
        let pair = Certificate::new(&given.cert, given.key.expose());
        Some(Certificate { id: given.id.clone(), ..pair })
    }

    /// The same route without any key material, as routers report it.
    pub fn without_certificate(&self) -> Self {
        let mut route = self.clone();
        route.certificate = None;
        route.tls_cert = String::new();
        route.tls_key = PrivateKeyPem::default();
        route
    }

    /// `<type>/<uuid>`, the id clients show; nothing before the route was stored.
    pub fn full_id(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{}/{id}", self.kind))
    }
}

/// A path as it is stored: `/` when empty, with a slash at both ends.
pub fn normal_path(path: &str) -> Result<String, RouteRefusal> {
    let refusal = RouteRefusal::Invalid("the path must begin with a slash");
    let mut path = path.to_owned();
    if !path.ends_with('/') {
        path.push('/');
    }
    if path.contains('\n') || !path.starts_with('/') { Err(refusal) } else { Ok(path) }
}

/// What a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// A domain and path, on the HTTP and HTTPS ports.
    Http,
    /// A port of its own.
    Tcp,
}

impl RouteKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Neither `http` nor `tcp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of route: use http or tcp")]
pub struct ParseRouteKindError(pub String);

impl FromStr for RouteKind {
    type Err = ParseRouteKindError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "http" => Ok(Self::Http),
            "tcp" => Ok(Self::Tcp),
            _ => Err(ParseRouteKindError(text.to_owned())),
        }
    }
}

fn object(body: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, RouteBodyError> {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(RouteBodyError::Json)?;
    object.retain(|_, value| !value.is_null());
    Ok(object)
}

fn check_name(name: &str, reason: &'static str) -> Result<(), RouteRefusal> {
    let fits = !name.is_empty() && name.chars().count() <= MAX_NAME;
    if fits { Ok(()) } else { Err(RouteRefusal::Invalid(reason)) }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdef";

    #[test]
    fn documented_routes_keep_their_bytes() {
        for json in [
            r#"{"type":"http","service":"demo-web","leader":false,"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z","domain":"www.example.com","drain_backends":true}"#,
            r#"{"type":"http","id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","parent_ref":"controller/apps/0f0e0d0c-1111-4222-8333-abcdefabcdee","service":"demo-web","leader":false,"created_at":"2026-11-21T04:45:00.123456Z","updated_at":"2026-11-21T04:45:00.12Z","domain":"www.example.com","sticky":true,"path":"/baz/","drain_backends":true}"#,
            r#"{"type":"tcp","id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","parent_ref":"controller/apps/0f0e0d0c-1111-4222-8333-abcdefabcdee","service":"demo-tcp","port":3000,"leader":false,"created_at":"2026-11-21T04:45:00Z","updated_at":"2026-11-21T04:45:00Z"}"#,
            r#"{"type":"http","id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","service":"s2","leader":false,"created_at":"2026-11-21T04:45:00Z","updated_at":"2026-11-21T04:45:01Z","domain":"c.example.com","certificate":{"id":"0f0e0d0c-1111-4222-8333-abcdefabcded","cert":"C","key":"K","created_at":"2026-11-21T04:45:00Z","updated_at":"2026-11-21T04:45:00Z"},"sticky":true,"path":"/","disable_keep_alives":true}"#,
            r#"{"type":"http","service":"s","leader":false,"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z","domain":"c","certificate":{"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z"},"tls_cert":"C\n","tls_key":"K\n"}"#,
        ] {
            let route: Route = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&route).unwrap(), json);
        }
    }

    #[test]
    fn a_body_needs_a_known_type_first() {
        for body in ["{}", r#"{"type":"udp","port":"x"}"#, r#"{"type":7}"#, r#"{"type":null}"#] {
            let error = Route::from_create_body(body.as_bytes()).unwrap_err();
            assert!(matches!(error, RouteBodyError::Type), "{body}: {error:?}");
        }
        for body in ["", "[]", r#"{"type":"tcp","port":"x"}"#] {
            let error = Route::from_create_body(body.as_bytes()).unwrap_err();
            assert!(matches!(error, RouteBodyError::Json(_)), "{body}: {error:?}");
        }
        let body = br#"{"type":"tcp","id":"ignored","service":"a","foo":1,"certificate":null}"#;
        assert_eq!(Route::from_create_body(body).unwrap(), Route::tcp(0, "a"));
    }

    #[test]
    fn an_update_takes_type_and_id_from_the_path() {
        let id: RouteId = ID.parse().unwrap();
        let body = br#"{"type":"udp","id":"x","service":"a","domain":"d"}"#;
        let route = Route::from_update_body(body, RouteKind::Http, id.clone()).unwrap();
        assert_eq!(route, Route { id: Some(id), ..Route::http("d", "a") });
        assert_eq!(route.full_id().unwrap(), format!("http/{ID}"));
    }

    #[test]
    fn routes_are_checked_by_the_documented_rules() {
        let long = "x".repeat(256);
        let path = |path: &str| Route { path: path.to_owned(), ..Route::http("d", "s") };
        let port = |port| Route { port, ..Route::tcp(0, "s") };
        for (route, want) in [
            (Route::http("d", "s"), None),
            (Route::http("*.d", "s"), None),
            (Route::http("", "s"), Some("Invalid route")),
            (Route::http("d", ""), Some("Invalid route")),
            (Route::http(&long, "s"), Some("Invalid route")),
            (Route::http("d", &long), Some("Invalid route")),
            (Route { port: 8080, ..Route::http("d", "s") }, Some("Invalid route")),
            (path("/x"), None),
            (path("noleadingslash/"), Some("Invalid route")),
            (port(0), None),
            (port(9999), None),
            (port(65_534), None),
            (port(65_535), Some("Invalid route")),
            (port(-1), Some("Invalid route")),
            (port(80), Some("Port reserved for HTTP/HTTPS traffic")),
            (port(443), Some("Port reserved for HTTP/HTTPS traffic")),
        ] {
            let got = route.check().err().map(|refusal| refusal.to_string());
            assert_eq!(got.as_deref(), want, "{route:?}");
        }
    }

    #[test]
    fn paths_are_stored_between_slashes() {
        for (given, stored) in [("", "/"), ("/", "/"), ("/a", "/a/"), ("/a/b/", "/a/b/")] {
            assert_eq!(normal_path(given).as_deref(), Ok(stored));
        }
        assert!(normal_path("a/").is_err());
        assert!(normal_path("/a\nb/").is_err());
    }

    #[test]
    fn deprecated_fields_win_and_keys_stay_out_of_logs() {
        let mut route = Route::http("d", "s");
        assert_eq!(route.wanted_certificate(), None);
        route.certificate = Some(Certificate::new("", ""));
        assert_eq!(route.wanted_certificate(), None);
        route.certificate = Some(Certificate::new("A", "secret-a"));
        assert_eq!(route.wanted_certificate(), Some(Certificate::new("A", "secret-a")));
        route.tls_cert = "B\n".to_owned();
        route.tls_key = PrivateKeyPem::new(" secret-b\n");
        assert_eq!(route.wanted_certificate(), Some(Certificate::new("B", "secret-b")));
        assert!(!format!("{route:?}").contains("secret"), "{route:?}");
        assert_eq!(route.without_certificate(), Route::http("d", "s"));
    }
}
