//! The captured exchanges of spec/platform.md §9, on both backends, and what must not go wrong.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobstore::{Backend, Config};
use kit_auth::Keys;
use kit_clock::SystemClock;
use kit_http::{Client, Request, Response};
use kit_pg::test_server::TestDatabase;
use kit_tasks::Tasks;

type Method = axum::http::Method;
type Name = axum::http::HeaderName;

struct Store {
    client: Client,
    tasks: Tasks,
    _database: TestDatabase,
    directory: tempfile::TempDir,
}

impl Store {
    async fn start(backend: Backend, keys: &str) -> Self {
        let database = TestDatabase::create().await;
        let directory = tempfile::tempdir().unwrap();
        let tasks = Tasks::root("test");
        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            database: database.settings().clone(),
            backend,
            directory: Some(directory.path().to_owned()),
            keys: Keys::parse(keys),
            max_size: 64 << 20,
            version: "test".to_owned(),
        };
        let running =
            blobstore::start(config, Arc::new(SystemClock::start()), &tasks).await.unwrap();
        let client = Client::new(&format!("http://{}", running.addr())).unwrap();
        let store = Self { client, tasks, _database: database, directory };
        let started = Instant::now();
        while store.status(Request::get("/.well-known/status")).await != 200 {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "the store does not become ready"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        store
    }

    /// Files of the directory.
    fn files(&self) -> usize {
        let folders = std::fs::read_dir(self.directory.path()).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    async fn send(&self, request: Request) -> Response {
        self.client.send_raw(request).await.unwrap()
    }

    async fn status(&self, request: Request) -> u16 {
        self.send(request).await.status().as_u16()
    }

    async fn body(&self, path: &str) -> String {
        let bytes = self.send(Request::get(path)).await.bytes().await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn head(&self, path: &str, header: &str) -> String {
        let answer = self.send(Request::new(Method::HEAD, path)).await;
        answer.headers().get(header).unwrap().to_str().unwrap().to_owned()
    }
}

fn put(path: &str, headers: &[(&'static str, &str)], body: &str) -> Request {
    let request = Request::new(Method::PUT, path).body(body.to_owned());
    with(request, headers)
}

fn get(path: &str, headers: &[(&'static str, &str)]) -> Request {
    with(Request::get(path), headers)
}

fn with(request: Request, headers: &[(&'static str, &str)]) -> Request {
    headers.iter().fold(request, |request, (name, value)| {
        request.header(Name::from_static(name), value).unwrap()
    })
}

const FOO_TAG: &str =
    "\"9/u6bgY2+JDlb7vzKD5STG+jIErimDgtYkdB0NxmODJuKCxBvl5CVNiCB3LFUYosWowMf37aGVlKfrU5RT4e1w==\"";
const FOOBAR_TAG: &str =
    "\"ClAmHr0aOQ/tK/Mm8mc8FFWCpjQtUjIElz0CGTN/gWFqgGmwElh89WNfaSXxtWw2AjDBmyc1AO4BPgMGAb8kJQ==\"";

async fn captured_exchanges(backend: Backend) {
    let store = Store::start(backend, "").await;
    assert_eq!(store.status(put("/a/b.txt", &[("content-type", "text/plain")], "foo")).await, 200);
    let answer = store.send(get("/a/b.txt", &[])).await;
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("content-length", "3"),
        ("content-type", "text/plain"),
        ("etag", FOO_TAG),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
    }
    assert!(answer.headers().contains_key("last-modified"));
    assert_eq!(answer.bytes().await.unwrap(), "foo");
    assert_eq!(store.status(get("/a/b.txt", &[("if-none-match", FOO_TAG)])).await, 304);

    let part = store.send(get("/a/b.txt", &[("range", "bytes=1-")])).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 1-2/3");
    assert_eq!(part.bytes().await.unwrap(), "oo");
    let beyond = store.send(get("/a/b.txt", &[("range", "bytes=9-")])).await;
    assert_eq!(
        (beyond.status().as_u16(), &beyond.headers()["content-range"]),
        (416, &"bytes */3".parse().unwrap())
    );
    let parts = store.send(get("/a/b.txt", &[("range", "bytes=0-0,2-2")])).await;
    let length: usize = parts.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let body = parts.bytes().await.unwrap();
    assert_eq!(body.len(), length);
    assert!(String::from_utf8_lossy(&body).contains("Content-Range: bytes 2-2/3\r\n\r\no\r\n--"));

    let appended = [("blobstore-offset", "3")];
    assert_eq!(store.status(put("/a/b.txt", &appended, "bar")).await, 200);
    assert_eq!(store.body("/a/b.txt").await, "foobar");
    assert_eq!(store.head("/a/b.txt", "etag").await, FOOBAR_TAG);
    assert_eq!(store.head("/a/b.txt", "content-type").await, "text/plain");
    assert_eq!(store.status(put("/a/b.txt", &appended, "bar")).await, 409);
    assert_eq!(store.body("/a/b.txt").await, "foobar");

    let copy = [("blobstore-copy-from", "/a/b.txt")];
    assert_eq!(store.status(put("/a/c.txt", &copy, "")).await, 200);
    assert_eq!(store.head("/a/c.txt", "etag").await, FOOBAR_TAG);
    assert_eq!(store.status(put("/a/c.txt", &copy, "")).await, 409);
    let missing = store.send(put("/a/d.txt", &[("blobstore-copy-from", "/a/zzz")], "")).await;
    assert_eq!(
        (missing.status().as_u16(), missing.bytes().await.unwrap()),
        (404, "NotFound\n".into())
    );
    assert_eq!(store.status(put("/a/sub/e.txt", &[], "")).await, 200);
    assert_eq!(store.head("/a/sub/e.txt", "content-length").await, "0");

    for (path, want) in [
        ("/", "[\"/a/\"]\n"),
        ("/?dir=/", "[\"/a/\"]\n"),
        ("/?dir=/a", "[\"/a/b.txt\",\"/a/c.txt\",\"/a/sub/\"]\n"),
        ("/?dir=/a/", "[\"/a/b.txt\",\"/a/c.txt\",\"/a/sub/\"]\n"),
        ("/?dir=/a/b.txt", "[]\n"),
        ("/?dir=/zz", "[]\n"),
        ("/?dir=a", "[]\n"),
        ("/a", "NotFound\n"),
    ] {
        assert_eq!(store.body(path).await, want, "{path}");
    }
    let delete = |path: &str| Request::new(Method::DELETE, path);
    assert_eq!(store.status(delete("/zzz")).await, 200);
    assert_eq!(store.status(delete("/a/b.tx.")).await, 200);
    assert_eq!(store.body("/a/b.txt").await, "foobar", "names are taken literally");
    assert_eq!(store.status(delete("/a")).await, 200);
    assert_eq!(store.status(Request::new(Method::HEAD, "/a/b.txt")).await, 404);
    for (method, path, want) in [
        (Method::DELETE, "/", 404),
        (Method::PUT, "/", 404),
        (Method::POST, "/", 404),
        (Method::POST, "/a/b.txt", 405),
        (Method::OPTIONS, "/a/b.txt", 405),
    ] {
        assert_eq!(store.status(Request::new(method.clone(), path)).await, want, "{method} {path}");
    }
    store.tasks.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn the_captured_exchanges_hold_on_postgres() {
    captured_exchanges(Backend::Postgres).await;
}

#[tokio::test]
async fn the_captured_exchanges_hold_in_a_directory() {
    captured_exchanges(Backend::Fs).await;
}

#[tokio::test]
async fn large_files_come_back_whole_whichever_chunk_they_end_in() {
    let store = Store::start(Backend::Postgres, "").await;
    for size in [(1 << 20) - 1, 1 << 20, 10_500_000] {
        let text: String =
            (0_u32..).map(|n| char::from(b'a' + (n % 26) as u8)).take(size).collect();
        assert_eq!(store.status(put("/large", &[], &text)).await, 200);
        let bytes = store.send(get("/large", &[])).await.bytes().await.unwrap();
        assert!(bytes == text.as_bytes(), "{size} bytes");
        let tail = store.send(get("/large", &[("range", "bytes=-5")])).await.bytes().await.unwrap();
        assert!(tail == text.as_bytes()[size - 5..]);
    }
}

#[tokio::test]
async fn with_a_key_set_only_its_holder_writes_and_everybody_reads() {
    let store = Store::start(Backend::Postgres, "k1,k2").await;
    assert_eq!(store.status(put("/a", &[], "no")).await, 401);
    assert_eq!(store.status(Request::new(Method::DELETE, "/a")).await, 401);
    // Base64 of ":k2" and of ":k3".
    let (key, stranger) = ([("authorization", "Basic Omsy")], [("authorization", "Basic Omsz")]);
    assert_eq!(store.status(put("/a", &stranger, "no")).await, 401);
    assert_eq!(store.status(put("/a", &key, "yes")).await, 200);
    assert_eq!(store.body("/a").await, "yes");
}

#[tokio::test]
async fn a_file_that_is_too_large_leaves_the_old_one() {
    let store = Store::start(Backend::Fs, "").await;
    assert_eq!(store.status(put("/a", &[], "small")).await, 200);
    let large = "x".repeat((64 << 20) + 1);
    assert_eq!(store.status(put("/a", &[], &large)).await, 413);
    assert_eq!(store.body("/a").await, "small");
}

fn named(digest: &str) -> String {
    format!("/slugs/layers/{digest}.squashfs")
}

async fn conditions(backend: Backend) {
    let store = Store::start(backend, "").await;
    let none = [("if-none-match", "*")];
    let first = [("if-match", FOO_TAG)];
    assert_eq!(store.status(put("/r.tar", &first, "x")).await, 412, "there is nothing to match");
    assert_eq!(store.status(put("/r.tar", &none, "foo")).await, 200);
    assert_eq!(store.status(put("/r.tar", &none, "bar")).await, 412, "there is something");
    assert_eq!(store.status(put("/r.tar", &first, "foobar")).await, 200);
    assert_eq!(store.status(put("/r.tar", &first, "lost")).await, 412, "somebody else was first");
    assert_eq!(store.body("/r.tar").await, "foobar");
    let any = [("if-match", "*")];
    assert_eq!(store.status(put("/r.tar", &any, "any")).await, 200);
    // Of many at once that saw the same file, one replaces it.
    let tag = store.head("/r.tar", "etag").await;
    let same = [("if-match", tag.as_str())];
    let puts = (0..8).map(|n| store.status(put("/r.tar", &same, &n.to_string())));
    let mut statuses = futures_util::future::join_all(puts).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    let puts = (0..8).map(|n| store.status(put("/new", &none, &n.to_string())));
    let mut statuses = futures_util::future::join_all(puts).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    // Those who do not care come one after the other.
    let puts = (0..8).map(|n| store.status(put("/newer", &[], &n.to_string())));
    assert_eq!(futures_util::future::join_all(puts).await, [200; 8]);
    store.tasks.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_file_is_replaced_only_by_who_saw_it_on_postgres() {
    conditions(Backend::Postgres).await;
}

#[tokio::test]
async fn a_file_is_replaced_only_by_who_saw_it_in_a_directory() {
    conditions(Backend::Fs).await;
}

#[tokio::test]
async fn a_name_that_is_a_digest_is_the_digest_of_its_file() {
    let store = Store::start(Backend::Fs, "").await;
    // SHA-512/256 of "foo".
    let digest = "d58042e6aa5a335e03ad576c6a9e43b41591bfd2077f72dec9df7930e492055d";
    assert_eq!(store.status(put(&named(digest), &[], "foo")).await, 200);
    assert_eq!(store.status(put(&named(digest), &[], "bar")).await, 400);
    assert_eq!(store.body(&named(digest)).await, "foo");
    let manifest = format!("/slugs/images/{digest}.json");
    assert_eq!(store.status(put(&manifest, &[], "bar")).await, 400);
    assert_eq!(store.status(put(&manifest, &[], "foo")).await, 200);
}

/// Sends the head of a PUT and half of what it promises, then goes away.
async fn broken_put(addr: SocketAddr, path: &str) {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nHost: b\r\nContent-Length: 6000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 3_000_000]).await.unwrap();
}

async fn half_a_file(backend: Backend) {
    let store = Store::start(backend, "").await;
    assert_eq!(store.status(put("/a", &[], "old")).await, 200);
    let addr = store.client.base().authority().unwrap().as_str().parse().unwrap();
    for path in ["/a", "/b"] {
        broken_put(addr, path).await;
    }
    assert_eq!(store.status(put("/c", &[], "new")).await, 200);
    assert_eq!(store.body("/a").await, "old");
    assert_eq!(store.status(Request::get("/b")).await, 404);
    store.tasks.shutdown(Duration::from_secs(30)).await;
    assert_eq!(store.files(), if backend == Backend::Fs { 2 } else { 0 });
}

#[tokio::test]
async fn half_a_file_is_no_file_on_postgres() {
    half_a_file(Backend::Postgres).await;
}

#[tokio::test]
async fn half_a_file_is_no_file_in_a_directory() {
    half_a_file(Backend::Fs).await;
}
