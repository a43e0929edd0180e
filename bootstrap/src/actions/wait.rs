//! Waits until something answers as it should.

use std::time::Duration;

use kit_http::Request;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{ActionError, Context};
use crate::steps::{WaitSpec, WaitTarget};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// One try.
const ATTEMPT: Duration = Duration::from_secs(5);

/// A target with its values worked out.
enum Target {
    Tcp(String),
    Http { url: String, host: Option<String>, status: u16 },
}

/// Tries until it answers or the time is over.
pub(super) async fn wait(spec: &WaitSpec, context: &Context<'_>) -> Result<(), ActionError> {
    let target = resolve(&spec.target, context)?;
    let within = context.options.wait_timeout;
    let give_up = Instant::now() + within;
    loop {
        let attempt = tokio::time::timeout(ATTEMPT, answer(&target, context)).await;
        let last = match attempt.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(()) => return Ok(()),
            Err(last) => last,
        };
        if Instant::now() + PAUSE >= give_up {
            let what = match target {
                Target::Tcp(addr) => addr,
                Target::Http { url, .. } => url,
            };
            return Err(ActionError::TimedOut { what, seconds: within.as_secs(), last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn resolve(target: &WaitTarget, context: &Context<'_>) -> Result<Target, ActionError> {
    match target {
        WaitTarget::Tcp(addr) => context.resolve(addr).map(Target::Tcp),
        WaitTarget::Http { url, host, status } => {
            let host = host.as_ref().map(|host| context.resolve(host)).transpose()?;
            Ok(Target::Http { url: context.resolve(url)?, host, status: *status })
        }
    }
}

/// Whether it answers as it should; if not, what it does instead.
async fn answer(target: &Target, context: &Context<'_>) -> Result<(), String> {
    match target {
        Target::Tcp(addr) => TcpStream::connect(addr).await.map(drop).map_err(|e| e.to_string()),
        Target::Http { url, host, status } => {
            let client = context.http(url).await.map_err(|error| error.to_string())?;
            let mut request = Request::get(url);
            if let Some(host) = host {
                let header = request.header(http::header::HOST, host);
                request = header.map_err(|error| error.to_string())?;
            }
            let answer = client.send_raw(request).await.map_err(|error| error.to_string())?;
            let found = answer.status().as_u16();
            if found == *status {
                Ok(())
            } else {
                Err(format!("status {found} instead of {status}"))
            }
        }
    }
}
