//! The captured run: what was sent, and every answer of the table, byte for byte.

use super::{PATIENCE, get, http, message, send, start, syslog, texts};

const WANT: &str = r#"{"host_id":"host1","job_id":"host1-aaa","msg":"hello","process_type":"web","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.000001Z"}
{"host_id":"host1","job_id":"host1-bbb","msg":"second, late","process_type":"worker","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.000002Z"}
{"host_id":"host1","job_id":"host1-aaa","msg":"third (stderr)","process_type":"web","source":"app","stream":"stderr","timestamp":"2026-01-02T03:04:05.000003Z"}
{"host_id":"host1","job_id":"host1-ccc","msg":"no type","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.000004Z"}
{"host_id":"host1","job_id":"host1-aaa","msg":"init line","process_type":"web","source":"app","stream":"init","timestamp":"2026-01-02T03:04:05.000005Z"}
{"host_id":"host2","job_id":"host2-ddd","msg":"unknown id","process_type":"web","source":"app","stream":"unknown","timestamp":"2026-01-02T03:04:05.000006Z"}
{"host_id":"host1","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.000007Z"}
{"host_id":"host1","job_id":"b.c","msg":"utf8 é \u003c\u0026\u003e \"q\"","process_type":"a","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.000008Z"}
{"host_id":"host1","job_id":"x","msg":"\ufffd\ufffd bad","process_type":"web","source":"app","stream":"stdout","timestamp":"2026-01-02T03:04:05.00001Z"}
"#;

/// The frames of the run, in this order of sending.
pub(crate) fn run() -> Vec<Vec<u8>> {
    let first =
        br#"85 <190>1 2026-01-02T03:04:05.000001Z host1 app1 web.host1-aaa ID1 [flynn seq="1"] hello"#;
    let line = |second: &str, proc_id: &str, msg_id: &str, seq: u64, text: &[u8]| {
        super::framed(&message("host1", second, proc_id, msg_id, seq, text))
    };
    vec![
        first.to_vec(),
        line("05.000003", "web.host1-aaa", "ID2", 3, b"third (stderr)"),
        line("05.000002", "worker.host1-bbb", "ID1", 2, b"second, late"),
        line("05.000004", "host1-ccc", "ID1", 4, b"no type"),
        line("05.000005", "web.host1-aaa", "ID3", 5, b"init line"),
        super::framed(&message("host2", "05.000006", "web.host2-ddd", "ID9", 6, b"unknown id")),
        first.to_vec(),
        line("05.000007", "-", "ID1", 7, b""),
        line("05.000008", "a.b.c", "ID1", 8, "utf8 é <&> \"q\"".as_bytes()),
        line("05.00001", "web.x", "ID1", 10, b"\xff\xfe bad"),
    ]
}

#[tokio::test]
async fn the_captured_run_is_answered_byte_for_byte() {
    let running = start().await;
    send(syslog(&running), &run()).await;
    let (head, body) = get(http(&running), "/log/app1").await;
    assert_eq!(body, WANT);
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");

    let (head, body) = get(http(&running), "/cursors").await;
    assert_eq!(
        body,
        r#"{"host1":{"time":"2026-01-02T03:04:05.00001Z","seq":10},"host2":{"time":"2026-01-02T03:04:05.000006Z","seq":6}}"#
    );
    assert!(head.contains("content-type: application/json"), "{head}");
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn queries_choose_lines() {
    let running = start().await;
    send(syslog(&running), &run()).await;
    let last = "\u{fffd}\u{fffd} bad";
    let all = texts(WANT);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (query, want) in [
        ("lines=1&job_id=host1-aaa&stream_types=stdout", vec!["hello"]),
        ("job_id=host1-aaa", vec!["hello", "third (stderr)", "init line"]),
        ("lines=2", vec!["utf8 é <&> \"q\"", last]),
        ("process_type=", vec!["no type", ""]),
        ("process_type=a&process_type=worker", vec!["second, late"]),
        ("process_type=web&lines=2", vec!["unknown id", last]),
        ("stream_types=unknown", vec!["unknown id"]),
        ("stream_types=stderr,init", vec!["third (stderr)", "init line"]),
        ("stream_types=bogus,init", vec!["init line"]),
        ("follow=1&stream_types=init", vec!["init line"]),
        ("lines=0", all.clone()),
        ("lines=10000", all.clone()),
        ("lines=&stream_types=&job_id=", all.clone()),
    ] {
        let (_, body) = get(http(&running), &format!("/log/app1?{query}")).await;
        assert_eq!(texts(&body), want, "{query}");
    }
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn empty_answers_have_no_type() {
    let running = start().await;
    send(syslog(&running), &run()).await;
    for path in ["/log/app1?stream_types=bogus", "/log/unknown", "/log/app1?job_id=nobody"] {
        let (head, body) = get(http(&running), path).await;
        assert_eq!(body, "", "{path}");
        assert!(head.contains("content-length: 0"), "{head}");
        assert!(!head.contains("content-type"), "{head}");
    }
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let running = start().await;
    for lines in ["-1", "10001"] {
        let (head, body) = get(http(&running), &format!("/log/app1?lines={lines}")).await;
        assert!(head.starts_with("http/1.1 400 "), "{head}");
        assert_eq!(
            body,
            r#"{"code":"validation_error","message":"lines lines must be an integer between 0 and 10000","detail":{"field":"lines"},"retry":false}"#
        );
    }
    for path in ["/", "/log", "/log/a/b", "/logs"] {
        let (head, body) = get(http(&running), path).await;
        assert!(
            head.starts_with("http/1.1 404 ") && body == "404 page not found\n",
            "{path}: {head}"
        );
    }
    let (_, body) = get(http(&running), "/.well-known/status").await;
    let want = "{\n  \"data\": {\n    \"status\": \"healthy\",\n    \"version\": \"dev\"\n  }\n}\n";
    assert_eq!(body, want);
    running.stop(PATIENCE).await;
}
