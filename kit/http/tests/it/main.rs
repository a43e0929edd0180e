//! The client against the server, over real sockets: what the conventions promise on the wire.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod server;
mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use kit_http::{Client, finish, serve};
use kit_tasks::{Running, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of these routes and a client of it.
async fn start(router: Router) -> (Running, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = serve(&Tasks::root("test"), listener, finish(router)).unwrap();
    let client = client_of(running.addr());
    (running, client)
}

fn client_of(addr: SocketAddr) -> Client {
    builder_of(addr).build().unwrap()
}

fn builder_of(addr: SocketAddr) -> kit_http::ClientBuilder {
    Client::builder(&format!("http://{addr}")).connect_timeout(PATIENCE).request_timeout(PATIENCE)
}

/// Sends bytes and gives all that comes back until the server closes.
async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// An answer's status, `Content-Type` and body.
async fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> (u16, String, String) {
    let length = body.len();
    let answer = raw(
        addr,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    (status, content_type.unwrap_or_default().to_owned(), body.to_owned())
}
