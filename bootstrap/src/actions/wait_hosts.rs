//! Waits until every host is part of the cluster.

use std::time::Duration;

use tokio::time::Instant;

use super::{ActionError, Context};
use crate::cluster::Host;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// The service every host daemon registers in.
const SERVICE: &str = "flynn-host";

/// Until all hosts have a subnet, know discoverd and are in it.
pub(super) async fn wait(context: &Context<'_>) -> Result<(), ActionError> {
    let within = context.options.timeout;
    let give_up = Instant::now() + within;
    loop {
        let missing = missing(context).await;
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() + PAUSE >= give_up {
            let what = format!("{} hosts to join the cluster", context.hosts.len());
            let last = missing.join("; ");
            return Err(ActionError::TimedOut { what, seconds: within.as_secs(), last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What every host that is not ready still lacks.
async fn missing(context: &Context<'_>) -> Vec<String> {
    let registered = match context.discoverd().await {
        Ok(Some(discoverd)) => discoverd.instances(SERVICE).await.unwrap_or_default(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let ids: Vec<_> = registered.iter().filter_map(|instance| instance.meta.get("id")).collect();
    let mut missing = Vec::new();
    for host in context.hosts {
        let lacks = lacks(host, ids.iter().any(|id| *id == host.id.as_str())).await;
        missing.extend(lacks.map(|lack| format!("host {} {lack}", host.id)));
    }
    missing
}

async fn lacks(host: &Host, registered: bool) -> Option<String> {
    let status = match host.client.status().await {
        Ok(status) => status,
        Err(error) => return Some(format!("does not answer ({error})")),
    };
    if status.discoverd.is_none_or(|discoverd| discoverd.url.is_empty()) {
        Some("knows no discoverd".to_owned())
    } else if status.network.is_none_or(|network| network.subnet.is_empty()) {
        Some("has no subnet".to_owned())
    } else if !registered {
        Some(format!("is not registered in service {SERVICE}"))
    } else {
        None
    }
}
