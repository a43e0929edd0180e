//! `flynn-host forget`: nothing of a host that left stays in the cluster: no registration, no vote, no subnet,
//! no open port.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use discoverd_api::{Client, ServiceMeta};
use host_api::{HostClient, MemberChange};
use kit_http::ErrorCode;
use serde_json::Value;

use crate::doctor::DISCOVERD_PORT;
use crate::hosts::Hosts;
use crate::{members, say};

/// Where hosts and overlays are registered; the second one's metadata has the leases.
const HOSTS: &str = "flynn-host";
const OVERLAY: &str = "flannel";
/// How long a host may take to show that it is still there.
const PING: Duration = Duration::from_secs(2);
/// Overlays write the leases, too: so often they may be faster.
const RACES: usize = 10;

/// Arguments of `forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Even a host that still runs.
    #[arg(short, long)]
    force: bool,
    /// Addresses of hosts.
    #[arg(required = true)]
    ips: Vec<Ipv4Addr>,
}

/// Goes on where one part fails, tells each, and fails then.
pub(crate) async fn run(args: ForgetArgs, hosts: &Hosts) -> anyhow::Result<()> {
    for ip in args.ips.iter().filter(|_| !args.force) {
        if answers(*ip).await {
            bail!(
                "the host at {ip} still runs: move its jobs away with `flynn-host drain`, end its \
                 daemon, then forget it; --force forgets it all the same"
            );
        }
    }
    let discoverd = Client::from_env()?;
    let mut failed = false;
    for ip in &args.ips {
        // The registration first: as long as it stands, every host takes its address for a member's.
        for (what, result) in [
            ("registrations", unregister(&discoverd, *ip).await),
            ("discoverd", leave(&discoverd, *ip).await),
            ("subnet", release(&discoverd, *ip).await),
        ] {
            match result {
                Ok(Some(done)) => say(&format!("{done}\n")),
                Ok(None) => {}
                Err(error) => {
                    say(&format!("{what} of {ip} stay: {error:#}\n"));
                    failed = true;
                }
            }
        }
    }
    members::tell_all(hosts, &MemberChange { add: Vec::new(), remove: args.ips }).await?;
    if failed {
        bail!("something is left: run this again once discoverd has a leader");
    }
    Ok(())
}

async fn answers(ip: Ipv4Addr) -> bool {
    let Ok(client) = HostClient::new(&format!("http://{ip}:{}", host_api::PORT)) else {
        return false;
    };
    matches!(tokio::time::timeout(PING, client.status()).await, Ok(Ok(_)))
}

/// A host that ended without a word is registered for a few seconds more.
async fn unregister(discoverd: &Client, ip: Ipv4Addr) -> anyhow::Result<Option<String>> {
    let mut removed = 0;
    for service in [HOSTS, OVERLAY, "discoverd"] {
        let instances = discoverd.instances(service).await?;
        let address = ip.to_string();
        for instance in instances.iter().filter(|instance| instance.host() == Some(&address)) {
            discoverd.remove_instance(service, &instance.id).await?;
            removed += 1;
        }
    }
    Ok((removed > 0).then(|| format!("{ip} is registered no longer")))
}

async fn leave(discoverd: &Client, ip: Ipv4Addr) -> anyhow::Result<Option<String>> {
    let peer = format!("{ip}:{DISCOVERD_PORT}");
    let members = discoverd.raft_members().await?;
    if !members.iter().any(|member| member.addr == peer) {
        return Ok(None);
    }
    discoverd.remove_peer(&peer).await?;
    Ok(Some(format!("discoverd's members are without {peer}")))
}

/// Takes the host's leases out of the metadata that all overlays read.
async fn release(discoverd: &Client, ip: Ipv4Addr) -> anyhow::Result<Option<String>> {
    for _ in 0..RACES {
        let Some(meta) = discoverd.meta(OVERLAY).await? else { return Ok(None) };
        let mut leases: Value = meta.parse().context("the leases cannot be read")?;
        let freed = free(&mut leases, ip);
        if freed.is_empty() {
            return Ok(None);
        }
        match discoverd.set_meta(OVERLAY, &ServiceMeta::replace(meta.index, &leases)?).await {
            Ok(_) => return Ok(Some(format!("subnet {} is free", freed.join(", ")))),
            Err(error) if error.code() == Some(ErrorCode::PreconditionFailed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the leases change all the time");
}

/// Removes the leases of an address; gives the subnets.
fn free(leases: &mut Value, ip: Ipv4Addr) -> Vec<String> {
    let Some(subnets) = leases.get_mut("subnets").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let address = ip.to_string();
    let of_host = |lease: &Value| lease.get("PublicIP").and_then(Value::as_str) == Some(&address);
    let freed: Vec<String> =
        subnets.iter().filter(|(_, lease)| of_host(lease)).map(|(key, _)| key.clone()).collect();
    subnets.retain(|_, lease| !of_host(lease));
    freed.into_iter().map(|key| key.replace('-', "/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leases_of_the_address_go() {
        let text = r#"{"config":{"Network":"10.3.0.0/16"},"subnets":{"10.3.1.0-24":{"PublicIP":"192.0.2.1","Seen":1},"10.3.2.0-24":{"PublicIP":"192.0.2.2"},"10.3.3.0-24":{"Wings":2}},"later":true}"#;
        let mut leases: Value = serde_json::from_str(text).unwrap();
        assert!(free(&mut leases, Ipv4Addr::new(192, 0, 2, 3)).is_empty());
        assert_eq!(free(&mut leases, Ipv4Addr::new(192, 0, 2, 1)), ["10.3.1.0/24"]);
        let rest = r#"{"config":{"Network":"10.3.0.0/16"},"subnets":{"10.3.2.0-24":{"PublicIP":"192.0.2.2"},"10.3.3.0-24":{"Wings":2}},"later":true}"#;
        assert_eq!(leases, serde_json::from_str::<Value>(rest).unwrap());
        assert!(free(&mut serde_json::json!({}), Ipv4Addr::LOCALHOST).is_empty());
    }
}
