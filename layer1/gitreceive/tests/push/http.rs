//! Requests that are no push: the order of the checks, exact texts, compressed bodies.

use std::io::Write as _;

use axum::http::{HeaderName, Method};
use kit_http::{Client, Request};

use crate::world::{KEY, World};

struct Answer {
    status: u16,
    kind: String,
    body: String,
}

async fn ask(client: &Client, request: Request) -> Answer {
    let response = client.send_raw(request).await.unwrap();
    let header =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, kind) = (response.status().as_u16(), header("content-type").unwrap_or_default());
    let body = String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned();
    Answer { status, kind, body }
}

fn anonymous(world: &World) -> Client {
    Client::new(&format!("http://{}", world.server.addr())).unwrap()
}

fn keyed(world: &World, key: &str) -> Client {
    Client::builder(&format!("http://{}", world.server.addr())).key(key).build().unwrap()
}

#[tokio::test]
async fn checks_come_in_their_order_with_their_texts() {
    let world = World::start().await;
    let (nobody, wrong, known) = (anonymous(&world), keyed(&world, "wrong"), keyed(&world, KEY));
    let refs = "/demo.git/info/refs?service=git-receive-pack";
    for (client, method, path, status, body) in [
        (&nobody, Method::GET, refs, 401, "Authentication required\n"),
        (&wrong, Method::GET, refs, 401, "Authentication required\n"),
        (&nobody, Method::GET, "/what", 401, "Authentication required\n"),
        (&known, Method::GET, "/what", 403, "Forbidden\n"),
        (&known, Method::POST, "/demo.git/info/refs", 403, "Forbidden\n"),
        (&known, Method::GET, "/De.mo/info/refs?service=git-receive-pack", 403, "Forbidden\n"),
        (&known, Method::GET, "/other.git/info/refs", 404, "unknown app\n"),
        (&known, Method::GET, "/demo.git/info/refs", 404, "Not Found\n"),
        (&known, Method::GET, "/demo.git/info/refs?service=git-x", 404, "Not Found\n"),
    ] {
        let answer = ask(client, Request::new(method, path)).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
        assert_eq!(answer.kind, "text/plain; charset=utf-8");
    }
    let refused = nobody.send_raw(Request::get(refs)).await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Basic");
    assert_eq!(ask(&nobody, Request::get("/.well-known/status")).await.status, 200);
    world.blobs.fail(true);
    let answer = ask(&known, Request::get("/demo.git/info/refs?service=git-x")).await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "Internal server error\n"));
    world.stop().await;
}

#[tokio::test]
async fn refs_are_told_as_the_smart_protocol_wants() {
    let world = World::start().await;
    let known = keyed(&world, KEY);
    for service in ["git-receive-pack", "git-upload-pack"] {
        let path = format!("/demo/info/refs?service={service}");
        let answer = ask(&known, Request::get(&path)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.kind, format!("application/x-{service}-advertisement"));
        let head = format!("# service={service}\n");
        let want = format!("{:04x}{head}0000", head.len() + 4);
        assert!(answer.body.starts_with(&want), "{}", answer.body);
    }
    world.stop().await;
}

fn rpc(path: &str, body: Vec<u8>, encoding: Option<&str>) -> Request {
    let request = Request::new(Method::POST, path).body(body);
    match encoding {
        Some(encoding) => {
            request.header(HeaderName::from_static("content-encoding"), encoding).unwrap()
        }
        None => request,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_read_and_what_is_not_compressed_is_an_error() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let commit = work.git(&["rev-parse", "HEAD"]).await;
    assert!(work.push(&world.url(), &["master"]).await.0);
    let known = keyed(&world, KEY);
    let want = format!("want {commit}\n");
    let wish = format!("{:04x}{want}00000009done\n", want.len() + 4).into_bytes();
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(&wish).unwrap();
    let path = "/demo.git/git-upload-pack";
    for request in [rpc(path, wish, None), rpc(path, zip.finish().unwrap(), Some("gzip"))] {
        let answer = ask(&known, request).await;
        assert_eq!(
            (answer.status, answer.kind.as_str()),
            (200, "application/x-git-upload-pack-result")
        );
        assert!(answer.body.starts_with("0008NAK\nPACK"), "{}", answer.body);
    }
    let answer = ask(&known, rpc(path, b"no gzip at all".to_vec(), Some("gzip"))).await;
    let refusal = (400, "the request is not gzip, as it says\n");
    assert_eq!((answer.status, answer.body.as_str()), refusal);
    // What git asks before a large push: nothing, to see whether it may.
    let probe = rpc("/demo.git/git-receive-pack", b"0000".to_vec(), None);
    assert_eq!(ask(&known, probe).await.status, 200);
    assert_eq!(world.blobs.puts(), 1, "nothing changed, so nothing is stored");
    world.stop().await;
}
