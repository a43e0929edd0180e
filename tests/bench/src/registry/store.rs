//! A client of either store: the requests the load is made of, in each one's own protocol.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use discoverd_api::Instance;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::grpc;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discoverd,
    Etcd,
}

/// Where the entries are.
const SERVICE: &str = "bench";
const PREFIX: &str = "/services/bench/";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One connection to one member.
pub(crate) struct Client {
    ip: Ipv4Addr,
    sender: Sender,
    /// What moves its bytes; ends with it.
    _connection: JoinSet<()>,
}

enum Sender {
    Discoverd(http1::SendRequest<Body>),
    Etcd(http2::SendRequest<Body>),
}

impl Client {
    pub(crate) async fn connect(kind: Kind, ip: Ipv4Addr) -> anyhow::Result<Self> {
        match kind {
            Kind::Discoverd => Self::plain(ip, 1111).await,
            Kind::Etcd => {
                let mut moving = JoinSet::new();
                let io = TokioIo::new(dial(ip, 2379).await?);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                moving.spawn(async { drop(connection.await) });
                Ok(Self { ip, sender: Sender::Etcd(sender), _connection: moving })
            }
        }
    }

    async fn plain(ip: Ipv4Addr, port: u16) -> anyhow::Result<Self> {
        let mut moving = JoinSet::new();
        let io = TokioIo::new(dial(ip, port).await?);
        let (sender, connection) = http1::handshake(io).await?;
        moving.spawn(async { drop(connection.await) });
        Ok(Self { ip, sender: Sender::Discoverd(sender), _connection: moving })
    }

    /// Whether this member leads.
    pub(crate) async fn leads(&mut self) -> anyhow::Result<bool> {
        match self.sender {
            Sender::Discoverd(_) => {
                let (status, body) = self.http(Method::GET, "/raft/leader", "").await?;
                let own = format!("\"{}:1111\"", self.ip);
                Ok(status == StatusCode::OK && String::from_utf8_lossy(&body).contains(&own))
            }
            Sender::Etcd(_) => {
                // The metrics are plain HTTP on the same port.
                let mut plain = Self::plain(self.ip, 2379).await?;
                let (_, body) = plain.http(Method::GET, "/metrics", "").await?;
                Ok(String::from_utf8_lossy(&body).contains("\netcd_server_is_leader 1"))
            }
        }
    }

    /// What entries hang on: a service in discoverd, nothing in etcd.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        if matches!(self.sender, Sender::Discoverd(_)) {
            let path = format!("/services/{SERVICE}");
            let (status, body) =
                self.http(Method::PUT, &path, r#"{"leader_type":"oldest"}"#).await?;
            let known = status == StatusCode::OK || status == StatusCode::CONFLICT;
            ensure!(known, "{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// Registers the entry with this number, which says `at` now.
    pub(crate) async fn write(&mut self, number: usize, at: &str) -> anyhow::Result<()> {
        let instance = entry(number, at);
        let text = serde_json::to_string(&instance)?;
        if matches!(self.sender, Sender::Etcd(_)) {
            let key = format!("{PREFIX}{}", instance.id);
            let message = grpc::put(key.as_bytes(), text.as_bytes());
            return self.call(grpc::PUT, message).await.map(drop);
        }
        let path = format!("/services/{SERVICE}/instances/{}", instance.id);
        let (status, body) = self.http(Method::PUT, &path, &text).await?;
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// All entries, as the member has them; says how many bytes they were.
    pub(crate) async fn read(&mut self) -> anyhow::Result<usize> {
        if matches!(self.sender, Sender::Etcd(_)) {
            return Ok(self.call(grpc::RANGE, grpc::range(PREFIX.as_bytes())).await?.len());
        }
        let path = format!("/services/{SERVICE}/instances");
        let (status, body) = self.http(Method::GET, &path, "").await?;
        ensure!(status == StatusCode::OK, "{status}");
        Ok(body.len())
    }

    /// The stream of changes of all entries.
    pub(crate) async fn watch(&mut self) -> anyhow::Result<Incoming> {
        let response = match &mut self.sender {
            Sender::Discoverd(sender) => {
                let path = format!("/services/{SERVICE}");
                sender.ready().await?;
                sender.send_request(request(self.ip, Method::GET, &path, "")?).await?
            }
            Sender::Etcd(sender) => {
                // A stream of requests that ended would end the watch.
                let create = Ok(Frame::data(grpc::watch(PREFIX.as_bytes())));
                let open = stream::StreamExt::chain(stream::iter([create]), stream::pending());
                let body = StreamBody::new(open).boxed_unsync();
                sender.ready().await?;
                sender.send_request(grpc_request(self.ip, grpc::WATCH, body)?).await?
            }
        };
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        Ok(response.into_body())
    }

    async fn http(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let Sender::Discoverd(sender) = &mut self.sender else { bail!("not an HTTP/1 connection") };
        sender.ready().await?;
        let response = sender.send_request(request(self.ip, method, path, body)?).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    async fn call(&mut self, method: &str, message: Bytes) -> anyhow::Result<Bytes> {
        let Sender::Etcd(sender) = &mut self.sender else { bail!("not an HTTP/2 connection") };
        let body = Full::new(message).boxed_unsync();
        sender.ready().await?;
        let response: Response<_> =
            sender.send_request(grpc_request(self.ip, method, body)?).await?;
        let answer = response.into_body().collect().await?;
        let trailers = answer.trailers().context("an answer without trailers")?;
        let status = trailers.get("grpc-status").context("an answer without a status")?;
        ensure!(status == "0", "{method}: {trailers:?}");
        Ok(answer.to_bytes())
    }
}

async fn dial(ip: Ipv4Addr, port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((ip, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The entry with this number.
fn entry(number: usize, at: &str) -> Instance {
    let addr = format!("10.{}.{}.{}:80", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff);
    Instance::new("tcp", &addr).with_meta("FLYNN_JOB_ID", "host1-0000").with_meta("at", at)
}

fn request(ip: Ipv4Addr, method: Method, path: &str, body: &str) -> anyhow::Result<Request<Body>> {
    let request = Request::builder().method(method).uri(path).header("host", format!("{ip}:1111"));
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed_unsync();
    Ok(request.header("content-type", "application/json").body(body)?)
}

fn grpc_request(ip: Ipv4Addr, method: &str, body: Body) -> anyhow::Result<Request<Body>> {
    let request = Request::builder().method(Method::POST).uri(format!("http://{ip}:2379{method}"));
    Ok(request.header("content-type", "application/grpc").header("te", "trailers").body(body)?)
}
