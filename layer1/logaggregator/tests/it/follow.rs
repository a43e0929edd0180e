//! Following: the backlog, then lines as they arrive, until the reader leaves or the aggregator stops.

use std::net::SocketAddr;

use futures_util::{Stream, StreamExt as _};
use kit_http::{Client, Request};

use super::{PATIENCE, captured, framed, http, message, send, start, syslog, texts};

/// Follows with a query; each item is one line's text.
async fn follow(
    addr: SocketAddr,
    query: &str,
) -> std::pin::Pin<Box<dyn Stream<Item = String> + Send>> {
    let client =
        Client::builder(&format!("http://{addr}")).connect_timeout(PATIENCE).build().unwrap();
    let request = Request::get(&format!("/log/app1?follow=true&{query}")).timeout(PATIENCE);
    let response = client.send(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let pieces =
        response.into_stream(None).map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap());
    // Pieces hold whole lines, as written.
    Box::pin(pieces.flat_map(|piece| futures_util::stream::iter(texts(&piece))))
}

async fn take(lines: &mut (impl Stream<Item = String> + Unpin), count: usize) -> Vec<String> {
    tokio::time::timeout(PATIENCE, lines.take(count).collect()).await.unwrap()
}

/// What arrives while somebody follows.
fn later() -> Vec<Vec<u8>> {
    vec![
        framed(&message("host1", "20", "web.host1-aaa", "ID1", 20, b"live1")),
        framed(&message("host1", "21", "web.host1-aaa", "ID2", 21, b"live2")),
        framed(&message("host1", "04", "worker.host1-bbb", "ID1", 22, b"old")),
    ]
}

#[tokio::test]
async fn followers_get_their_backlog_then_what_arrives_in_that_order() {
    let running = start().await;
    send(syslog(&running), &captured::run()).await;
    let mut two = follow(http(&running), "lines=2&stream_types=stdout,stderr").await;
    let mut none = follow(http(&running), "lines=0").await;
    let mut unset = follow(http(&running), "").await;
    let mut worker = follow(http(&running), "process_type=worker").await;
    send(syslog(&running), &later()).await;
    let bad = "\u{fffd}\u{fffd} bad";
    assert_eq!(take(&mut two, 5).await, ["utf8 é <&> \"q\"", bad, "live1", "live2", "old"]);
    assert_eq!(take(&mut none, 3).await, ["live1", "live2", "old"]);
    assert_eq!(take(&mut unset, 3).await, ["live1", "live2", "old"]);
    assert_eq!(take(&mut worker, 1).await, ["old"]);
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_line_sent_again_is_not_followed_again() {
    let running = start().await;
    send(syslog(&running), &captured::run()).await;
    let mut lines = follow(http(&running), "").await;
    send(syslog(&running), &captured::run()).await;
    send(syslog(&running), &later()).await;
    assert_eq!(take(&mut lines, 1).await, ["live1"]);
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_stop_ends_the_body() {
    let running = start().await;
    send(syslog(&running), &captured::run()).await;
    let mut lines = follow(http(&running), "lines=1").await;
    assert_eq!(take(&mut lines, 1).await.len(), 1);
    running.tasks.stop();
    let rest: Vec<String> = tokio::time::timeout(PATIENCE, lines.collect()).await.unwrap();
    assert!(rest.is_empty());
    running.stop(PATIENCE).await;
}
