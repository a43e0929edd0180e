//! Health checks over TLS. Supervisors carry no TLS, so they ask the daemon; while it is away their last
//! result holds.

use std::io;
use std::net::SocketAddr;

use futures_util::StreamExt as _;
use host_container::protocol::HttpsCheck;
use kit_http::{Client, ClientError, Request, Resolve, Resolved};

/// How much of a body is searched for the expected text.
const BODY_SEARCHED: usize = 5120;

/// Whether the service answers as it should.
pub(super) async fn is_healthy(check: &HttpsCheck) -> bool {
    match tokio::time::timeout(check.timeout, ask(check)).await {
        Ok(Ok(is_expected)) => is_expected,
        Ok(Err(error)) => {
            tracing::debug!(addr = %check.addr, %error, "https check failed");
            false
        }
        Err(_) => false,
    }
}

async fn ask(check: &HttpsCheck) -> Result<bool, ClientError> {
    let Ok(addr) = check.addr.parse::<SocketAddr>() else { return Ok(false) };
    let host = if check.host.is_empty() { addr.ip().to_string() } else { check.host.clone() };
    let path = if check.path.is_empty() { "/" } else { &check.path };
    // A client of its own: no connection is kept from one check to the next.
    let client = Client::builder(&format!("https://{host}:{}", addr.port()))
        .tls(kit_tls::client_config_unverified())
        .resolver(std::sync::Arc::new(Fixed(addr)))
        .connect_timeout(check.timeout)
        .request_timeout(check.timeout)
        .build()?;
    let request = Request::get(path).header(http::header::HOST, &host)?;
    let answer = client.send_raw(request).await?;
    if answer.status().as_u16() != check.expect_status {
        return Ok(false);
    }
    let mut body = Vec::new();
    let mut pieces = std::pin::pin!(answer.into_stream(Some(check.timeout)));
    while body.len() < BODY_SEARCHED && !has(&body, &check.expect_text) {
        let Some(piece) = pieces.next().await else { break };
        body.extend_from_slice(&piece?);
        body.truncate(BODY_SEARCHED);
    }
    Ok(has(&body, &check.expect_text))
}

fn has(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whatever the name, the service's own address.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolved<'a> {
        Box::pin(async move { io::Result::Ok(Some(vec![self.0])) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kit_clock::Clock as _;
    use kit_tls::{Authority, Validity};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// One TLS server with a certificate nobody knows.
    async fn server(tasks: &kit_tasks::Tasks) -> SocketAddr {
        let now = kit_clock::SystemClock::start().wall();
        let validity = Validity::starting(now, Duration::from_secs(3600));
        let identity = Authority::generate("test", validity).unwrap();
        let identity = identity.issue(&["check.test"], validity).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(kit_tls::server_config(&identity).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tasks.spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = vec![0; 4096];
                let count = stream.read(&mut head).await.unwrap_or(0);
                let is_ours = String::from_utf8_lossy(&head[..count]).contains("/ok");
                let status = if is_ours { "200 OK" } else { "404 Not Found" };
                let text = format!("HTTP/1.1 {status}\r\ncontent-length: 7\r\n\r\nhealthy");
                drop(stream.write_all(text.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_service_with_any_certificate_is_judged_by_status_and_text() {
        kit_tls::install_provider();
        let tasks = kit_tasks::Tasks::root("test");
        let addr = server(&tasks).await.to_string();
        let check = |path: &str, text: &str| HttpsCheck {
            check: 0,
            addr: addr.clone(),
            host: "check.test".to_owned(),
            path: path.to_owned(),
            expect_status: 200,
            expect_text: text.to_owned(),
            timeout: Duration::from_secs(30),
        };
        assert!(is_healthy(&check("/ok", "")).await);
        assert!(is_healthy(&check("/ok", "healthy")).await);
        assert!(!is_healthy(&check("/ok", "sick")).await);
        assert!(!is_healthy(&check("/", "")).await);
        let nobody = HttpsCheck { addr: "127.0.0.1:1".to_owned(), ..check("/ok", "") };
        assert!(!is_healthy(&nobody).await);
        tasks.stop();
    }
}
