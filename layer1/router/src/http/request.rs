//! Heads on their way through: which host a request is for, what is refused, which headers are taken
//! off and put on (spec/router.md §5). Nothing else of a request or response changes.

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use crate::connection::Peer;
use crate::worker::Worker;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderName = HeaderName::from_static("trailers");

/// Brings an HTTP/2 request into the form of HTTP/1.1: the path alone as target, the authority as
/// Host, one Cookie line.
pub(super) fn from_http2<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(HOST, authority);
    }
    if *request.method() != Method::CONNECT {
        let target = request.uri().path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
    }
    join(request.headers_mut(), &COOKIE, b"; ");
    *request.version_mut() = Version::HTTP_11;
}

/// Refuses what cannot be forwarded safely. Lengths that contradict each other are refused before
/// this by the parser; of a length next to a chunked body only the chunks count, and the connection
/// closes after it.
pub(super) fn check<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("400 Bad Request: CONNECT is not supported");
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts == 0 && request.version() == Version::HTTP_11 {
        return Err("400 Bad Request: missing required Host header");
    }
    if hosts > 1 {
        return Err("400 Bad Request: too many Host headers");
    }
    // In the absolute form the target names the host, whatever the header says (RFC 9112, 3.2.2).
    let authority = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(HOST, authority);
    }
    match request.headers().get(HOST).map(HeaderValue::to_str) {
        Some(Err(_)) => Err("400 Bad Request: malformed Host header"),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The host a request is for, with its port if one is written; empty without any.
pub(super) fn host<B>(request: &Request<B>) -> &str {
    request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Whether the request asks to leave HTTP.
pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && names(request.headers(), "upgrade")
}

/// Whether a `Connection` header has this token.
pub(super) fn names(headers: &HeaderMap, token: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Takes off what belongs to one connection only: framing always, and unless the connection is about
/// to be upgraded `Upgrade`, `Connection` and whatever that names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    for name in [TE, TRAILERS, TRANSFER_ENCODING, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
    if upgrade {
        return;
    }
    headers.remove(UPGRADE);
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    headers.remove(CONNECTION);
    // A client cannot make us drop what the message needs.
    for name in named.iter().filter(|name| ![HOST, CONTENT_LENGTH].contains(name)) {
        headers.remove(name);
    }
}

/// Puts on what backends learn about the client and the request.
pub(super) fn add_forwarded(headers: &mut HeaderMap, worker: &Worker, peer: &Peer) {
    append(headers, X_FORWARDED_FOR, &peer.ip);
    append(headers, X_FORWARDED_PROTO, &peer.listener.proto);
    append(headers, X_FORWARDED_PORT, &peer.listener.port_text);
    headers.insert(X_REQUEST_START, now(worker));
    if !headers.get(X_REQUEST_ID).is_some_and(|id| is_request_id(id.as_bytes())) {
        headers.insert(X_REQUEST_ID, random_id());
    }
}

/// All values so far, joined, then ours.
fn append(headers: &mut HeaderMap, name: HeaderName, ours: &HeaderValue) {
    if headers.contains_key(&name) {
        headers.append(&name, ours.clone());
        join(headers, &name, b", ");
    } else {
        headers.insert(name, ours.clone());
    }
}

/// Several lines of one header become one.
fn join(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if values.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&values.join(separator))
    {
        headers.insert(name, joined);
    }
}

/// Milliseconds since the epoch, 13 digits.
fn now(worker: &Worker) -> HeaderValue {
    let millis = worker.shared.clock.wall().since_epoch().as_millis();
    HeaderValue::from_str(&format!("{millis:013}"))
        .unwrap_or_else(|_| HeaderValue::from_static("0000000000000"))
}

/// 20 to 200 characters of base64 and dashes.
fn is_request_id(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-".contains(byte);
    (20..=200).contains(&id.len()) && id.iter().all(allowed)
}

/// A random UUID.
fn random_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_kept_by_the_documented_table() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-";
        for (id, kept) in [
            (String::new(), false),
            ("a".to_owned(), false),
            ("a".repeat(19), false),
            ("a".repeat(20), true),
            ("a".repeat(200), true),
            ("a".repeat(201), false),
            (alphabet.to_owned(), true),
            (format!("{alphabet}*"), false),
        ] {
            assert_eq!(is_request_id(id.as_bytes()), kept, "{id}");
        }
        let random = random_id();
        let text = random.to_str().unwrap();
        assert_eq!((text.len(), text.split('-').count(), &text[14..15]), (36, 5, "4"));
        assert_ne!(random, random_id());
    }

    #[test]
    fn connection_headers_go_with_what_they_name() {
        for (connection, gone) in [
            ("keep-alive", &[][..]),
            ("Foo", &["foo"]),
            ("keep-alive, Foo", &["foo"]),
            ("keep-alive,Foo", &["foo"]),
            (
                "close, custom-Conn-header,   ,Another-option   ",
                &["custom-conn-header", "another-option"],
            ),
            ("host, content-length", &[]),
        ] {
            let all =
                ["host", "content-length", "foo", "custom-conn-header", "another-option", "kept"];
            let mut headers: HeaderMap = all
                .iter()
                .map(|n| (HeaderName::from_static(n), HeaderValue::from_static("1")))
                .collect();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static("x"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
            remove_hop_by_hop(&mut headers, false);
            let left: Vec<_> = all.iter().filter(|name| headers.contains_key(**name)).collect();
            let want: Vec<_> = all.iter().filter(|name| !gone.contains(*name)).collect();
            assert_eq!(left, want, "{connection}");
            assert_eq!(headers.len(), want.len(), "{headers:?}");
        }
    }

    #[test]
    fn an_upgrade_keeps_its_connection_headers() {
        let mut headers = HeaderMap::new();
        headers
            .insert(CONNECTION, HeaderValue::from_static("upGrade, custom-Conn-header,   ,x   "));
        headers.insert(UPGRADE, HeaderValue::from_static("Some-proto-2"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert!(names(&headers, "upgrade") && !names(&headers, "close"));
        remove_hop_by_hop(&mut headers, true);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn http2_requests_become_http1() {
        let mut request = Request::builder()
            .version(Version::HTTP_2)
            .uri("https://a.example:8443/x?y=1")
            .header(COOKIE, "a=1")
            .header(COOKIE, "b=2")
            .body(())
            .unwrap();
        from_http2(&mut request);
        assert_eq!(request.uri().to_string(), "/x?y=1");
        assert_eq!((host(&request), request.version()), ("a.example:8443", Version::HTTP_11));
        assert_eq!(request.headers().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
