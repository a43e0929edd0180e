//! Whether this host is connected: alone, or with at least one neighbour that answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use kit_http::{Client, Request, Status};
use netplan::{Backend, Block, Lease};

use crate::leasing::View;

/// Neighbours asked at the same time.
const WORKERS: usize = 5;
/// How long one may take.
const TIME_OUT: Duration = Duration::from_secs(1);
/// How long all may take: whoever asks for the status waits no longer than 2 s.
const ALL: Duration = Duration::from_millis(1800);

/// The status as the neighbours are now.
pub(crate) async fn of(view: &View, own_ip: Ipv4Addr) -> Status {
    if view.subnet.is_none() {
        return Status::unhealthy(view.problem.as_deref().unwrap_or("the host has no subnet yet"));
    }
    if let Some(fault) = &view.fault {
        return Status::unhealthy(fault.as_str());
    }
    let others =
        view.leases.iter().filter(|(_, lease)| lease.public_ip != own_ip && lease.http_port > 0);
    let urls: Vec<_> = others.map(|(subnet, lease)| url(*subnet, lease)).collect();
    let count = urls.len();
    let answers = stream::iter(urls).map(answers).buffer_unordered(WORKERS);
    let mut any = std::pin::pin!(answers.filter(|answered| std::future::ready(*answered)));
    let connected =
        count == 0 || tokio::time::timeout(ALL, any.next()).await.is_ok_and(|one| one.is_some());
    if connected {
        Status::healthy()
    } else {
        Status::unhealthy(format!("none of {count} neighbours answers"))
    }
}

/// Where a neighbour answers: through the tunnel, if there is one to test.
fn url(subnet: Block, lease: &Lease) -> String {
    let ip = match lease.backend {
        Backend::Vxlan(_) => subnet.first(),
        Backend::Alloc | Backend::HostGw => lease.public_ip,
    };
    format!("http://{ip}:{}", lease.http_port)
}

async fn answers(url: String) -> bool {
    let client = Client::builder(&url).connect_timeout(TIME_OUT).request_timeout(TIME_OUT).build();
    match client {
        Ok(client) => {
            let ping = client.send(Request::get("/ping"));
            matches!(tokio::time::timeout(TIME_OUT, ping).await, Ok(Ok(_)))
        }
        Err(_) => false,
    }
}
