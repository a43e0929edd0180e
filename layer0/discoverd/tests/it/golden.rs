//! The captured answers of the original, byte for byte. Indices differ from run to run: `@1`, `@2` in a
//! text stand for the index of the first, second… registration.

use crate::support::{Server, ask, config};

const A: &str = "e15086afcc9b0dda9e8d8cb223ff8556";
const B: &str = "4b999c520bee976ad3d9ebab81b64c3d";

fn instance_a() -> String {
    format!(
        r#"{{"id":"{A}","addr":"10.0.0.1:80","proto":"tcp","meta":{{"FLYNN_JOB_ID":"host1-a"}}}}"#
    )
}

fn instance_b() -> String {
    format!(r#"{{"id":"{B}","addr":"10.0.0.2:80","proto":"tcp","meta":{{"k":"v"}}}}"#)
}

/// A server with service `web` and its two instances, and their indices.
async fn with_web(server: &Server) -> (u64, u64) {
    server.ask("PUT", "/services/web", r#"{"leader_type":"oldest"}"#).await;
    let first = server.ask("PUT", &format!("/services/web/instances/{A}"), &instance_a()).await;
    let second = server.ask("PUT", &format!("/services/web/instances/{B}"), &instance_b()).await;
    (first.index() + 1, second.index() + 1)
}

#[tokio::test]
async fn registration_answers_as_captured() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    let answer = server.ask("PUT", "/services/web", r#"{"leader_type":"oldest"}"#).await;
    let head: Vec<_> = answer.head.lines().filter(|line| !line.starts_with("date: ")).collect();
    let index = format!("discoverd-index: {}", answer.index());
    let peers = format!("discoverd-peers: {}", server.addr());
    let want = ["HTTP/1.1 200 OK", "connection: close", "content-length: 0", &index, &peers];
    let mut sorted = head[1..].to_vec();
    sorted.sort_unstable();
    assert_eq!((head[0], sorted.as_slice()), (want[0], &want[1..]), "{}", answer.head);
    let (a, b) = {
        server.ask("DELETE", "/services/web", "").await;
        with_web(&server).await
    };
    assert!(b > a, "indices increase");
    let with_index = |instance: String, index: u64| {
        format!("{},\"index\":{index}}}", instance.strip_suffix('}').unwrap())
    };
    let list = server.ask("GET", "/services/web/instances", "").await;
    let want = format!("[{},{}]", with_index(instance_a(), a), with_index(instance_b(), b));
    assert_eq!((list.status, list.body), (200, want));
    let leader = server.ask("GET", "/services/web/leader", "").await;
    assert_eq!((leader.status, leader.body), (200, with_index(instance_a(), a)));
    assert_eq!(list.head.lines().filter(|l| *l == "content-type: application/json").count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn metadata_is_swapped_as_captured() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    with_web(&server).await;
    server.ask("PUT", "/services/web3", "{}").await;
    let put = async |path: &str, body: &str| {
        let answer = server.ask("PUT", path, body).await;
        let index = answer.index();
        (answer.status, answer.body, index)
    };
    let (status, body, before) = put("/services/web/meta", r#"{"data":{"a":1}}"#).await;
    let first = before + 1;
    assert_eq!((status, body), (200, format!(r#"{{"data":{{"a":1}},"index":{first}}}"#)));
    let refusals = [
        (
            r#"{"data":{"a":1}}"#.to_owned(),
            409,
            r#"{"code":"object_exists","message":"Service metadata for \"web\" already exists, use index=n to set","retry":false}"#,
        ),
        (
            format!(r#"{{"data":{{"a":2}},"index":{}}}"#, first + 1),
            412,
            r#"{"code":"precondition_failed","message":"Service metadata for \"web\" exists, but wrong index provided","retry":false}"#,
        ),
    ];
    for (body, status, want) in refusals {
        let answer = put("/services/web/meta", &body).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, want));
    }
    let swap = format!(r#"{{"data":{{"a":  2}},"index":{first},"leader_id":"{B}"}}"#);
    let (status, body, _) = put("/services/web/meta", &swap).await;
    let second = first + 3;
    let want = format!(r#"{{"data":{{"a":2}},"leader_id":"{B}","index":{second}}}"#);
    assert_eq!((status, body), (200, want));
    let shown = server.ask("GET", "/services/web/meta", "").await;
    assert_eq!(shown.body, format!(r#"{{"data":{{"a":2}},"index":{second}}}"#));
    let (status, body, _) = put("/services/web3/meta", r#"{"data":{"a":1},"index":5}"#).await;
    assert_eq!(
        (status, body.as_str()),
        (
            412,
            r#"{"code":"precondition_failed","message":"Service metadata for \"web3\" does not exist, use index=0 to set","retry":false}"#
        )
    );
    let (status, body, _) = put("/services/web3/meta", "{}").await;
    assert_eq!((status, body), (200, format!(r#"{{"data":null,"index":{}}}"#, second + 2)));
    let (status, body, _) = put("/services/none/meta", r#"{"data":{}}"#).await;
    assert_eq!(
        (status, body.as_str()),
        (
            404,
            r#"{"code":"object_not_found","message":"discoverd: service \"none\" not found","retry":false}"#
        )
    );
    server.stop().await;
}

#[tokio::test]
async fn errors_have_the_bodies_of_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    server.ask("PUT", "/services/web", "{}").await;
    let validation = |message: &str| {
        (400, format!(r#"{{"code":"validation_error","message":"{message}","retry":false}}"#))
    };
    let missing = |message: &str| {
        (404, format!(r#"{{"code":"object_not_found","message":"{message}","retry":false}}"#))
    };
    let syntax = || {
        (400, r#"{"code":"syntax_error","message":"The provided JSON input is invalid","retry":false}"#.to_owned())
    };
    let wrong_id = format!(r#"{{"id":"{A}","addr":"10.0.0.2:80","proto":"tcp"}}"#);
    for (method, path, body, want) in [
        ("PUT", "/services/Web", "{}", validation("discoverd: service must be lowercase alphanumeric plus dash")),
        ("DELETE", "/services/a_b", "", validation("discoverd: service must be lowercase alphanumeric plus dash")),
        ("PUT", "/services/web", "{}", (409, r#"{"code":"object_exists","message":"discoverd: service \"web\" already exists","retry":false}"#.to_owned())),
        ("PUT", "/services/x", "", syntax()),
        ("PUT", "/services/x", "{\"leader_type\":1}", syntax()),
        ("DELETE", "/services/abc", "", missing(r#"discoverd: service \"abc\" not found"#)),
        ("GET", "/services/web/instances", "", missing(r#"service not found: \"web\""#)),
        ("GET", "/services/web/leader", "", missing("no leader found")),
        ("GET", "/services/web/meta", "", missing("service meta not found")),
        ("PUT", "/services/web/instances/x", &wrong_id, validation("discoverd: instance id is incorrect, expected 4b999c520bee976ad3d9ebab81b64c3d")),
        ("PUT", "/services/web/instances/x", "null", validation("discoverd: proto must be set")),
        ("PUT", "/services/none/instances/x", &instance_b(), missing(r#"discoverd: service \"none\" not found"#)),
        ("DELETE", "/services/web/instances/x", "", missing(r#"discoverd: service \"web\" not found"#)),
        ("PUT", "/services/web/leader", r#"{"id":"x"}"#, validation("service leader election type is not manual")),
        ("PUT", "/services/none/leader", "no json", validation("service leader election type is not manual")),
    ] {
        let answer = server.ask(method, path, body).await;
        assert_eq!((answer.status, answer.body), want, "{method} {path} {body}");
    }
    let answer = ask(server.addr(), "PUT", "/services/x", "", "{}").await;
    assert_eq!((answer.status, answer.body), validation("Content-Type must be application/json"));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_a_plain_404() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await;
    for (method, path) in
        [("GET", "/nothing"), ("PATCH", "/ping"), ("PUT", "/services/"), ("POST", "/services/web")]
    {
        let answer = server.ask(method, path, "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "404 page not found\n"),
            "{method} {path}"
        );
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.index() > 0, "it carries the headers of every answer");
    }
    server.stop().await;
}
