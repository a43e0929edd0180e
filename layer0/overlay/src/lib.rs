//! The overlay: gives the host a subnet that no other host has, keeps it over restarts, and makes the
//! way to the other hosts' subnets.
//!
//! Which subnet, and which entries the kernel needs, are `netplan`'s decisions; here is the traffic
//! around them. The component starts and listens whatever is away, uses what it remembers at once, and
//! goes on trying to agree with discoverd for as long as it runs. What it made in the kernel stays when
//! it ends: packets need no process of ours.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod config;
mod entries;
mod health;
mod host;
mod leasing;
mod memory;
mod netlink;
mod plane;
mod registry;
mod tunnel;
mod uplink;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use kit_tasks::{Running, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use config::{Config, ConfigError};
pub use leasing::View;
pub use memory::MemoryError;
pub use registry::RegistryError;

/// The service in discoverd; clients of the original know it under this name.
pub const SERVICE: &str = "flannel";

/// Why the overlay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or the address is not this host's.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The host daemon's URL is none.
    #[error(transparent)]
    Host(#[from] kit_http::ClientError),
}

/// Starts listening and looking for a subnet.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    let node = tasks.child("overlay");
    let wanted = config.listen;
    let listen = move |source| StartError::Listen { addr: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let memory = memory::Memory::open(&config.data_dir)?;
    let host = host_api::HostClient::new(&config.host_url)?;
    let (view, seen) = watch::channel(View::default());
    let config = Arc::new(config);

    let router = router(&config, seen.clone());
    let http = kit_http::serve(&node, listener, router.clone()).map_err(listen)?;
    node.spawn_until_stop("inside", answer_inside(seen, addr.port(), router, node.clone()));
    let leasing = leasing::Leasing::new(config, addr.port(), memory, host, view, node.clone());
    node.spawn_until_stop("leasing", leasing.run());
    Ok(Running { addrs: http.addrs, tasks: node })
}

/// Answers on the tunnel device's address too, as soon as there is one: neighbours ask there, to see that
/// the tunnel works.
async fn answer_inside(mut view: watch::Receiver<View>, port: u16, router: Router, tasks: Tasks) {
    let mut answered = None;
    loop {
        let inside = view.borrow_and_update().inside;
        if let Some(ip) = inside.filter(|ip| answered != Some(*ip)) {
            let listener = TcpListener::bind((ip, port)).await;
            match listener.and_then(|listener| kit_http::serve(&tasks, listener, router.clone())) {
                Ok(_running) => answered = Some(ip),
                Err(error) => tracing::warn!(%ip, %error, "not answering inside the tunnel yet"),
            }
        }
        if view.changed().await.is_err() {
            return;
        }
    }
}

fn router(config: &Arc<Config>, view: watch::Receiver<View>) -> Router {
    let own_ip = config.external_ip;
    let health = move || {
        let view = view.borrow().clone();
        async move { health::of(&view, own_ip).await }
    };
    let status = kit_http::status_router(env!("CARGO_PKG_VERSION"), health);
    kit_http::finish(Router::new().route("/ping", get(async || ())).merge(status))
}
