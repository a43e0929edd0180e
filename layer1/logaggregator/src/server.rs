//! Start: listen first, then everything else.

use std::net::SocketAddr;

use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;

use crate::store::Store;
use crate::{Config, http, intake, membership};

/// Why an aggregator cannot start. Everything else it waits for while it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Starts an aggregator. Its addresses are HTTP's, then syslog's.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let tasks = tasks.child("logaggregator");
    let (web, http_addr) = listen(config.http).await?;
    let (syslog, syslog_addr) = listen(config.syslog).await?;
    let store = Store::new(config.max_bytes);
    let router = http::router(store.clone(), &tasks, &config.version);
    kit_http::serve(&tasks, web, router).map_err(refused(http_addr))?;
    intake::start(&tasks, syslog, store.clone());
    if let Some(registration) = config.registration {
        membership::join(&tasks, registration, http_addr, syslog_addr, store);
    }
    tracing::info!(http = %http_addr, syslog = %syslog_addr, "collecting log lines");
    Ok(Running { addrs: vec![http_addr, syslog_addr], tasks })
}

/// A listener and where it really listens.
async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(addr).await.map_err(refused(addr))?;
    let real = listener.local_addr().map_err(refused(addr))?;
    Ok((listener, real))
}

fn refused(addr: SocketAddr) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::Listen { addr, source }
}
