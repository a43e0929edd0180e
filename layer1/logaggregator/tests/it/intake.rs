//! What hosts may get wrong, and how much they may send.

use super::{PATIENCE, framed, get, http, message, send, start, syslog, texts, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn line(seq: u64, text: &str) -> Vec<u8> {
    let second = format!("{:02}.{:06}", seq / 1_000_000, seq % 1_000_000);
    framed(&message("host1", &second, "web.host1-aaa", "ID1", seq, text.as_bytes()))
}

#[tokio::test]
async fn a_wrong_line_costs_itself_only() {
    let running = start().await;
    let wrong = [&b"nothing"[..], b"<190>1 2026-01-02T03:04:05Z h app1 p ID1 - no number", b""];
    let mut frames = vec![line(1, "before")];
    frames.extend(wrong.iter().map(|message| framed(message)));
    frames.push(line(2, "after"));
    send(syslog(&running), &frames).await;
    let (_, body) = get(http(&running), "/log/app1").await;
    assert_eq!(texts(&body), ["before", "after"]);
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_wrong_frame_costs_the_connection_and_nothing_before_it() {
    let running = start().await;
    for (seq, wrong) in [&b"\n"[..], b" ", b"x", b"11001 ", b"123456"].into_iter().enumerate() {
        let mut stream = tokio::net::TcpStream::connect(syslog(&running)).await.unwrap();
        stream.write_all(&line(seq as u64, &format!("before {seq}"))).await.unwrap();
        stream.write_all(wrong).await.unwrap();
        // Not closed by us: it is the aggregator that ends it, without a word.
        let mut answer = Vec::new();
        // A reset is an end as well: there was more to read than it wanted.
        drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap());
        assert!(answer.is_empty());
        let want = format!("before {seq}");
        until(http(&running), "/log/app1", |body| texts(body).contains(&want)).await;
    }
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_newest_ten_thousand_are_kept() {
    let running = start().await;
    let frames: Vec<_> = (1..=10_050).map(|seq| line(seq, &seq.to_string())).collect();
    send(syslog(&running), &[frames.concat()]).await;
    let (_, body) = get(http(&running), "/log/app1").await;
    let texts = texts(&body);
    assert_eq!(texts.len(), 10_000);
    assert_eq!((texts[0].as_str(), texts[9_999].as_str()), ("51", "10050"));
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_longest_line_passes() {
    let running = start().await;
    let long = "x".repeat(10_000);
    send(syslog(&running), &[line(1, &long), line(2, &"y".repeat(50))]).await;
    let (_, body) = get(http(&running), "/log/app1").await;
    assert_eq!(texts(&body), [long, "y".repeat(50)]);
    running.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_stop_closes_hosts_connections() {
    let running = start().await;
    let mut stream = tokio::net::TcpStream::connect(syslog(&running)).await.unwrap();
    stream.write_all(&line(1, "x")).await.unwrap();
    until(http(&running), "/log/app1", |body| !body.is_empty()).await;
    running.stop(PATIENCE).await;
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap());
}
