//! What is refused, in which words; and that nothing a caller sends is ever answered as our failure.

use http::Method;
use kit_http::Request;

use crate::examples::demo;
use crate::support::{Server, accepting, send, with_header};

#[tokio::test]
async fn refusals_have_the_words_clients_know() {
    let server = Server::start().await;
    let (app, release) = demo(&server).await;
    let no_artifacts = server
        .post("/releases", &format!(r#"{{"app_id":"{app}","processes":{{"w":{{}}}}}}"#))
        .await;
    let empty = no_artifacts.field("id");
    let formation = format!("/apps/demo/formations/{release}");
    let scale = format!("/apps/demo/scale/{release}");
    let syntax =
        r#"{"code":"syntax_error","message":"The provided JSON input is invalid","retry":false}"#;
    let field = |field: &str, text: &str| {
        let message = serde_json::Value::from(format!("{field} {text}"));
        format!(
            r#"{{"code":"validation_error","message":{message},"detail":{{"field":"{field}"}},"retry":false}}"#
        )
    };
    let plain = |text: &str| {
        let message = serde_json::Value::from(text);
        format!(r#"{{"code":"validation_error","message":{message},"retry":false}}"#)
    };
    let post = Method::POST;
    let put = Method::PUT;
    let cases = [
        (&post, "/apps", r#"{"name":1}"#, syntax.to_owned()),
        (&post, "/apps", "xx", syntax.to_owned()),
        (&post, "/apps", "[]", syntax.to_owned()),
        (&post, "/apps", "{", syntax.to_owned()),
        (&post, "/apps", r#"{"meta":{"a":1}}"#, syntax.to_owned()),
        (
            &post,
            "/apps",
            r#"{"name":"this is not valid"}"#,
            field("name", r#"String must match the pattern: "^[a-z\d]+(-[a-z\d]+)*$"."#),
        ),
        (
            &post,
            "/apps",
            r#"{"strategy":"x"}"#,
            field(
                "strategy",
                "Enum error. The data must be equal to one of these values [all-at-once one-by-one sirenia discoverd-meta one-down-one-up in-batches].",
            ),
        ),
        (
            &post,
            "/apps/demo",
            r#"{"foo":"bar"}"#,
            plain(r#"Additional properties aren't allowed, found "foo" as one of its keys"#),
        ),
        (
            &post,
            "/apps/demo",
            r#"{"meta":{"x":1}}"#,
            field("meta", "Validation failed for each schema in 'anyOf'."),
        ),
        (
            &post,
            "/apps/demo",
            r#"{"deploy_timeout":"5"}"#,
            field("deploy_timeout", "Value must be one of these types: [integer]. Got string"),
        ),
        (
            &post,
            "/artifacts",
            r#"{"type":"docker"}"#,
            plain(r#"Required error. The data must be an object with "uri" as one of its keys"#),
        ),
        (
            &post,
            "/artifacts",
            r#"{"type":"flynn","uri":"foo bar"}"#,
            field("uri", "Value must be a valid URI, according to RFC3986."),
        ),
        (
            &post,
            "/artifacts",
            r#"{"type":"x","uri":"http://h"}"#,
            field(
                "type",
                "Enum error. The data must be equal to one of these values [docker file flynn].",
            ),
        ),
        (
            &post,
            "/artifacts",
            r#"{"type":"flynn","uri":"http://127.0.0.1:1/m"}"#,
            field("size", "must be greater than zero"),
        ),
        (
            &post,
            "/artifacts",
            r#"{"type":"flynn","uri":"http://127.0.0.1:1/m","size":3}"#,
            field(
                "manifest",
                "failed to download from http://127.0.0.1:1/m: verify: no hashes provided",
            ),
        ),
        (
            &post,
            "/releases",
            r#"{"env":{"":"x\"y"}}"#,
            field(
                "env",
                r#"you can't create an env var with an empty key (tried to set ""="x\"y")"#,
            ),
        ),
        (&put, "/apps/demo/release", r#"{"id":"zz"}"#, plain("could not find release with ID zz")),
        (&post, "/apps/demo/deploy", r#"{"id":"zz"}"#, plain("could not find release with ID zz")),
        (
            &put,
            &formation,
            r#"{"processes":{"zz":1}}"#,
            plain("requested scale includes process types that do not exist in the release: zz"),
        ),
        (&put, &format!("/apps/demo/formations/{empty}"), "{}", plain("release is not deployable")),
        (
            &Method::GET,
            "/formations",
            "",
            plain("must either request a stream or only active formations"),
        ),
        (
            &put,
            &scale,
            r#"{"new_processes":{"web":1}}"#,
            field(
                "state",
                "Enum error. The data must be equal to one of these values [pending cancelled complete].",
            ),
        ),
        (
            &put,
            &scale,
            r#"{"state":"pending"}"#,
            plain("scale request must have either processes or tags set"),
        ),
        (
            &put,
            "/apps/demo/jobs/x",
            r#"{"state":"blocked"}"#,
            field(
                "state",
                "Enum error. The data must be equal to one of these values [pending starting up stopping down crashed failed].",
            ),
        ),
        (
            &post,
            "/apps/demo/jobs",
            "{}",
            plain(
                r#"Required error. The data must be an object with "release" as one of its keys"#,
            ),
        ),
        (
            &post,
            "/apps/demo/jobs",
            r#"{"release":"x","partition":"x"}"#,
            field(
                "partition",
                "Enum error. The data must be equal to one of these values [background user system].",
            ),
        ),
        (
            &post,
            "/apps/demo/jobs",
            &format!(r#"{{"release":"{empty}"}}"#),
            field("release.ArtifactIDs", "cannot be empty"),
        ),
        (
            &post,
            "/providers",
            r#"{"name":"p","url":"foo bar"}"#,
            field("url", "Value must be a valid URI, according to RFC3986."),
        ),
    ];
    for (method, path, body, want) in cases {
        let answer = server.send(method.clone(), path, body).await;
        assert_eq!(answer.line(), format!("400 {want}"), "{method} {path} {body}");
    }
    let exists = r#"409 {"code":"object_exists","message":"application \"demo\" already exists","retry":false}"#;
    assert_eq!(server.post("/apps", r#"{"name":"demo"}"#).await.line(), exists);
    let text =
        with_header(Request::new(Method::POST, "/apps").body("{}"), "content-type", "text/plain");
    let answer = send(&server.http, text).await;
    assert_eq!(answer.line(), format!("400 {}", plain("Content-Type must be application/json")));
    let answer = send(&server.http, accepting("/events?count=x", "application/json")).await;
    assert_eq!(answer.line(), format!("400 {}", field("count", "is invalid")));
    server.stop().await;
}

/// Every endpoint with every kind of rubbish: a refusal, never a failure of ours.
#[tokio::test]
async fn rubbish_is_never_our_failure() {
    let server = Server::start().await;
    let (app, release) = demo(&server).await;
    let long = "x".repeat(300);
    let bodies = [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{}",
        r#"{"id":"x"}"#,
        r#"{"id":1,"name":[],"type":{}}"#,
        r#"{"name":"a\u0000b","service":"a\u0000b","uri":"http://\u0000","url":"http://h/\u0000","type":"http"}"#,
        r#"{"processes":{"web":-1},"new_processes":{"web":99999999999},"state":"pending"}"#,
        r#"{"processes":"x","tags":[],"state":"complete","id":"0f0e0d0c-1111-4222-8333-abcdefabcdef"}"#,
        r#"{"uuid":"0f0e0d0c-1111-4222-8333-abcdefabcdef","app":"0f0e0d0c-1111-4222-8333-abcdefabcdef","release":"0f0e0d0c-1111-4222-8333-abcdefabcdef","state":"up"}"#,
        r#"{"app_id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","artifacts":["0f0e0d0c-1111-4222-8333-abcdefabcdef"]}"#,
        r#"{"type":"tcp","service":"x","port":70000}"#,
        r#"{"type":"http","service":"x","domain":"d","path":"nope"}"#,
        r#"{"type":"http","service":"x","domain":"d","certificate":{"cert":"x","key":"y"}}"#,
        r#"{"id":"0f0e0d0c-1111-4222-8333-abcdefabcdef","host_id":"h","type":"data","state":"created","app":"0f0e0d0c-1111-4222-8333-abcdefabcdef"}"#,
        r#"{"apps":["nope"],"external_id":"e"}"#,
    ];
    let names = [
        &app,
        "demo",
        "nope",
        "%00",
        "0f0e0d0c-1111-4222-8333-abcdefabcdef",
        &long,
        "%ff",
        "a%2Fb",
    ];
    for name in names {
        for rest in [
            "",
            "/meta",
            "/release",
            "/releases",
            "/formations",
            "/formations/x",
            "/jobs",
            "/jobs/x",
            "/deploy",
            "/deployments",
            "/resources",
            "/routes",
            "/routes/http/x",
            "/routes/udp/x",
            "/volumes",
            "/volumes/x",
            "/volumes/x/decommission",
            "/scale/x",
        ] {
            check(&server, &format!("/apps/{name}{rest}"), &bodies).await;
        }
        for prefix in
            ["/releases", "/artifacts", "/providers", "/deployments", "/events", "/volumes"]
        {
            check(&server, &format!("{prefix}/{name}"), &bodies).await;
        }
        check(&server, &format!("/providers/{name}/resources"), &bodies).await;
        check(&server, &format!("/providers/x/resources/{name}/apps/{name}"), &bodies).await;
    }
    for rest in ["formations", "scale"] {
        check(&server, &format!("/apps/demo/{rest}/{release}"), &bodies).await;
    }
    for path in [
        "/apps",
        "/releases",
        "/artifacts",
        "/providers",
        "/formations",
        "/resources",
        "/routes",
        "/volumes",
        "/active-jobs",
        "/ca-cert",
        "/formations?active=%ff&since=%00",
    ] {
        check(&server, path, &bodies).await;
    }
    for query in
        ["count=x", "before_id=99999999999999999999", "since_id=x", "app_id=%00", "app_id=nope"]
    {
        let answer =
            send(&server.http, accepting(&format!("/events?{query}"), "application/json")).await;
        assert!((400..500).contains(&answer.status), "{query}: {answer:?}");
    }
    server.stop().await;
}

async fn check(server: &Server, path: &str, bodies: &[&str]) {
    let ours = |status: u16| status >= 500;
    for method in [Method::GET, Method::DELETE] {
        let answer = server.send(method.clone(), path, "").await;
        assert!(!ours(answer.status), "{method} {path}: {answer:?}");
    }
    for body in bodies {
        for method in [Method::POST, Method::PUT] {
            let answer = server.send(method.clone(), path, body).await;
            assert!(!ours(answer.status), "{method} {path} {body}: {answer:?}");
        }
    }
}
