//! What no browser sends, to the router, with and without TLS: refused or passed on as RFC 9112 and
//! spec/router.md §4, §5 and §9 say, never two answers to one request, and it serves on.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::ensure;
use cluster_tests::{DOMAIN, Platform, on_shared_platform, until};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;

use super::harm::Before;
use super::wire::{Case, Want, ask, connect, rest};

const APP: &str = "badpage";
/// Connections that begin a request and then say nothing.
const SLOW: usize = 200;
const NOT_FOUND: Want = Want::Text(404, "Not Found\n");
const NO_HOST: Want = Want::Text(400, "400 Bad Request: missing required Host header");
const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 80);
const HTTPS: ([u8; 4], u16) = ([127, 0, 0, 1], 443);

#[test]
fn the_router_refuses_what_no_browser_sends() {
    on_shared_platform(async |platform| {
        start_page(&platform).await?;
        let before = Before::note(&platform).await?;
        let (http, https) = (SocketAddr::from(HTTP), SocketAddr::from(HTTPS));
        // They are held until all the others have been answered.
        let slow = (0..SLOW).map(|number| begin(if number % 2 == 0 { http } else { https }));
        let slow: Vec<_> = slow.collect::<std::io::Result<_>>()?;
        let mut cases = lines();
        cases.extend(hosts());
        cases.extend(lengths());
        cases.extend(chunks());
        cases.extend(heads());
        cases.extend(leavings());
        let tls = kit_tls::client_config_unverified();
        let mut problems = Vec::new();
        for case in &cases {
            problems.extend(case.problem(ask(http, case)));
            let answer = ask_tls(https, &tls, &format!("{APP}.{DOMAIN}"), case);
            problems.extend(case.problem(answer).map(|problem| format!("with TLS: {problem}")));
        }
        problems.extend(not_tls(https));
        problems.extend(odd_tls(https, &tls));
        ensure!(problems.is_empty(), "{problems:#?}");
        ensure!(cases.len() > 60, "only {} questions", cases.len());
        drop(slow);
        platform.fetch(&format!("http://{APP}.{DOMAIN}/"))?;
        before.has_stayed(&platform).await
    });
}

async fn start_page(platform: &Platform) -> anyhow::Result<()> {
    let port = json!({"port": 8080, "proto": "tcp", "service": {
        "name": "badpage-web", "create": true, "check": {"type": "tcp"}}});
    let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
    platform.app(APP, &json!({ "web": web })).await?;
    platform.flynn(&["-a", APP, "scale", "web=1"])?;
    let page = format!("http://{APP}.{DOMAIN}/");
    until("the page is there", async || platform.fetch(&page).is_ok()).await
}

fn begin(addr: SocketAddr) -> std::io::Result<std::net::TcpStream> {
    let mut stream = connect(addr)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHo")?;
    Ok(stream)
}

/// A request for the page that is complete but for what `more` does to it.
fn to_page(first: &str, more: &str) -> String {
    format!("{first}\r\nHost: {APP}.{DOMAIN}\r\nConnection: close\r\n{more}\r\n")
}

fn lines() -> Vec<Case> {
    let mut cases = Vec::new();
    for first in [
        "hello",
        "GET /",
        "GET",
        "GET  /  HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/9.9",
        "GET / http/1.1",
        "GET / HTTP/1.1 more",
        "GET relative HTTP/1.1",
        "GET ://x HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET http:/// HTTP/1.1",
        "GE\tT / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT badpage.flynn.localhost:80 HTTP/1.1",
        "CONNECT * HTTP/1.1",
    ] {
        cases.push(Case::new(&format!("line {first:?}"), to_page(first, ""), Want::Refused));
    }
    for first in [
        "GET ////// HTTP/1.1",
        "GET /..%2f..%2f%00%ff HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "GET /?=&&%zz HTTP/1.1",
        "UNHEARDOF / HTTP/1.1",
    ] {
        cases.push(Case::new(&format!("line {first:?}"), to_page(first, ""), Want::Status(200)));
    }
    cases.push(Case::new("line OPTIONS *", to_page("OPTIONS * HTTP/1.1", ""), Want::Harmless));
    cases.push(Case::new("TRACE", to_page("TRACE / HTTP/1.1", ""), Want::Harmless));
    cases
}

fn hosts() -> Vec<Case> {
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    let page = format!("Host: {APP}.{DOMAIN}\r\n");
    let mut cases = vec![
        Case::new("no host", with(""), NO_HOST),
        Case::new("no host, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", NOT_FOUND),
        Case::new("two hosts", with(&[&page[..], &page].concat()), Want::Status(400)),
        Case::new("another host too", with(&format!("{page}Host: x\r\n")), Want::Status(400)),
        Case::new(
            "host that is no text",
            b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
            Want::Refused,
        ),
        Case::new("long host", with(&format!("Host: {}\r\n", "a.".repeat(10_000))), NOT_FOUND),
        Case::new(
            "target before host",
            absolute(&format!("{APP}.{DOMAIN}"), "x"),
            Want::Status(200),
        ),
        Case::new("unknown target", absolute("nobody.test", &format!("{APP}.{DOMAIN}")), NOT_FOUND),
    ];
    for host in ["", "nobody.test", ".", "..", "*", "a b", "a@b", "a/../b", "[::1", ":80", "x:y:z"]
    {
        let name = format!("host {host:?}");
        cases.push(Case::new(&name, with(&format!("Host: {host}\r\n")), NOT_FOUND));
    }
    cases
}

fn absolute(target: &str, host: &str) -> String {
    format!("GET http://{target}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Lengths that leave open where a request ends. The second request is never answered.
fn lengths() -> Vec<Case> {
    let second = to_page("GET /second HTTP/1.1", "");
    let length = second.len();
    let mut cases = Vec::new();
    for framing in [
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 0, {length}\r\n"),
        "Content-Length: +5\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 0x5\r\n".to_owned(),
        "Content-Length: 5 5\r\n".to_owned(),
        "Content-Length: \r\n".to_owned(),
        "Content-Length: 99999999999999999999\r\n".to_owned(),
        "Content-Length : 5\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: \u{b}chunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\n\tfolded\r\n".to_owned(),
        " X: y\r\n".to_owned(),
    ] {
        let request = to_page("POST / HTTP/1.1", &framing) + &second;
        cases.push(Case::new(&format!("length {framing:?}"), request, Want::Refused));
    }
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request = to_page("POST / HTTP/1.1", framing) + "2\r\nab\r\n0\r\n\r\n" + &second;
        cases.push(Case::new(&format!("length {framing:?}"), request, Want::Harmless));
    }
    cases
}

fn chunks() -> Vec<Case> {
    let head = to_page("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n");
    let extension = "x".repeat(100_000);
    let trailers = "A: b\r\n".repeat(10_000);
    let mut cases = Vec::new();
    for body in [
        "zz\r\nab\r\n0\r\n\r\n",
        "-1\r\nab\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nab",
        "2\r\nabcd\r\n0\r\n\r\n",
        "2\nab\n0\n\n",
        "\r\n\r\n",
        &format!("2;{extension}\r\nab\r\n0\r\n\r\n"),
        &format!("0\r\n{trailers}\r\n"),
        "0\r\nContent-Length: 5\r\n\r\n",
    ] {
        let shown: String = body.chars().take(20).collect();
        cases.push(Case::broken_off(&format!("chunk {shown:?}"), format!("{head}{body}")));
    }
    for body in ["", "5", "5\r\n", "5\r\nab", "5\r\nabcde\r\n", "0\r\n"] {
        cases.push(Case::broken_off(&format!("end at {body:?}"), format!("{head}{body}")));
    }
    let short = to_page("POST / HTTP/1.1", "Content-Length: 9223372036854775807\r\n");
    cases.push(Case::broken_off("less than promised", short + "ab"));
    cases.push(Case::broken_off("half a head", "GET / HTTP/1.1\r\nHost: x\r\nX"));
    cases.push(Case::broken_off("nothing", ""));
    cases
}

fn heads() -> Vec<Case> {
    let get = |more: &str| to_page("GET / HTTP/1.1", more);
    let long = "x".repeat(200_000);
    vec![
        Case::new("long header", get(&format!("X: {long}\r\n")), Want::Refused),
        Case::new("long name", get(&format!("{long}: x\r\n")), Want::Refused),
        Case::new("many headers", get(&"A: b\r\n".repeat(500)), Want::Refused),
        Case::new("long path", to_page(&format!("GET /{long} HTTP/1.1"), ""), Want::Refused),
        Case::new("long method", to_page(&format!("{long} / HTTP/1.1"), ""), Want::Refused),
        Case::new("no end of a head", format!("GET / HTTP/1.1\r\nX: {long}{long}"), Want::Refused),
        Case::new("no colon", get("nothing\r\n"), Want::Refused),
        Case::new("no name", get(": x\r\n"), Want::Refused),
        Case::new("odd name", get("a(b): x\r\n"), Want::Refused),
        Case::new("zero in a value", get("X: a\0b\r\n"), Want::Refused),
        Case::new("carriage return in a value", get("X: a\rb\r\n"), Want::Refused),
    ]
}

/// Requests to leave HTTP/1.1, which the page does not grant.
fn leavings() -> Vec<Case> {
    let leaving = |more: &str| {
        format!("GET / HTTP/1.1\r\nHost: {APP}.{DOMAIN}\r\nConnection: upgrade\r\n{more}\r\n")
    };
    vec![
        Case::new("upgrade to nothing", leaving(""), Want::Harmless),
        Case::new("unknown upgrade", leaving("Upgrade: x/1, \x7e\r\n"), Want::Harmless),
        Case::new("h2c", leaving("Upgrade: h2c\r\nHTTP2-Settings: !\r\n"), Want::Harmless),
        Case::new(
            "unknown expectation",
            to_page("GET / HTTP/1.1", "Expect: x\r\n"),
            Want::Harmless,
        ),
        Case::new(
            "names what is needed",
            "GET / HTTP/1.1\r\nHost: badpage.flynn.localhost\r\n\
             Connection: close, host, content-length\r\n\r\n",
            Want::Status(200),
        ),
    ]
}

/// [`ask`] within TLS; the host name of the handshake is `name`.
fn ask_tls(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
    case: &Case,
) -> std::io::Result<Vec<u8>> {
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let session = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, connect(addr)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    drop(stream.write_all(&case.request));
    if case.breaks_off {
        stream.conn.send_close_notify();
        drop(stream.conn.complete_io(&mut stream.sock));
        drop(stream.sock.shutdown(std::net::Shutdown::Write));
    }
    rest(&mut stream)
}

/// Bytes that are no TLS are answered by an alert, or by nothing.
fn not_tls(addr: SocketAddr) -> Vec<String> {
    let hello = [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".as_slice(), &[0x5a; 40]].concat();
    let record = [b"\x17\x03\x03\xff\xff".as_slice(), &[0; 70_000]].concat();
    let cases = [
        Case::broken_off("HTTP to the TLS port", to_page("GET / HTTP/1.1", "")),
        Case::broken_off("half a hello", hello),
        Case::broken_off("a record before the handshake", record),
        Case::broken_off("zeros", vec![0; 10_000]),
        Case::broken_off("nothing", ""),
    ];
    let mut problems = Vec::new();
    for case in &cases {
        match ask(addr, case) {
            Ok(answer) if answer.first().is_none_or(|kind| *kind == 0x15) => {}
            answer => problems.push(format!("{}: {answer:?}", case.name)),
        }
    }
    problems
}

/// Handshakes with names and protocols that are not served.
fn odd_tls(addr: SocketAddr, config: &Arc<ClientConfig>) -> Vec<String> {
    let page = format!("{APP}.{DOMAIN}");
    let plain = Case::new("", to_page("GET / HTTP/1.1", ""), Want::Status(200));
    let speaking = |protocols: &[&[u8]]| {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let mut problems = Vec::new();
    for name in ["nobody.test", "x.nobody.test"] {
        if ask_tls(addr, config, name, &plain).is_ok() {
            problems.push(format!("a handshake for {name} succeeds"));
        }
    }
    // Without a name the platform's own certificate is shown, and the Host header counts.
    let mut served = |what: &str, config: &Arc<ClientConfig>, name: &str| {
        let problem = plain.problem(ask_tls(addr, config, name, &plain));
        problems.extend(problem.map(|problem| format!("{what}{problem}")));
    };
    served("no name", config, "127.0.0.1");
    served("no protocol", &speaking(&[]), &page);
    served("another name than the host's", config, &format!("git.{DOMAIN}"));
    let http2 = speaking(&[b"h2"]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    for (what, frames) in [
        ("no preface", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("garbage after the preface", [preface, &[0x5a; 4096]].concat()),
        ("a frame of 16 MB", [preface, b"\xff\xff\xff\0\0\0\0\0\x01"].concat()),
        ("headers that are no HPACK", [preface, HTTP2_HEADERS].concat()),
    ] {
        let case = Case::broken_off(what, frames);
        match ask_tls(addr, &http2, &page, &case) {
            Ok(answer) if !answer.starts_with(b"HTTP/1.1 5") => {}
            answer => problems.push(format!("HTTP/2, {what}: {answer:?}")),
        }
    }
    problems
}

/// An empty SETTINGS frame, then HEADERS of stream 1 with bytes that decode to nothing.
const HTTP2_HEADERS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff";
