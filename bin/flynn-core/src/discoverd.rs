//! discoverd's flags and the environment of its job.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use discoverd::{ClusterDomain, Config, DnsConfig};

/// Flags of `flynn-core discoverd`; those a job gets from its host come from the environment too.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the log is kept.
    #[arg(long, env = "DATA_DIR", default_value = "/data")]
    data_dir: PathBuf,
    /// The host name or address under which others find this server.
    #[arg(long, env = "EXTERNAL_IP")]
    host: String,
    /// The servers that vote, this one among them: a comma list of host:port.
    #[arg(long, env = "DISCOVERD_PEERS", value_delimiter = ',')]
    peers: Vec<String>,
    /// Where HTTP and the other servers are answered; a comma list. An address without a host means
    /// all of this machine. Without any: port 1111 of loopback and of --host in a job, so that the host
    /// can answer on its bridge; else port 1111 of everything.
    #[arg(long, env = "DISCOVERD_LISTEN", value_delimiter = ',')]
    addr: Vec<String>,
    /// Where DNS is answered.
    #[arg(long)]
    dns_addr: Option<String>,
    /// Who is asked about names outside of Flynn: a comma list, port 53 where none is given.
    #[arg(long, value_delimiter = ',')]
    recursors: Vec<String>,
    /// The host's URL that is told where discoverd and its DNS are.
    #[arg(long, env = "DISCOVERD_NOTIFY")]
    notify: Option<String>,
    /// Answer DNS on the host's bridge as soon as the host has a network.
    #[arg(long, env = "DISCOVERD_WAIT_NET_DNS")]
    wait_net_dns: bool,
    /// The host's status page, for --wait-net-dns; on port 1113 of --host by default.
    #[arg(long, env = "HOST_STATUS_URL")]
    host_status: Option<String>,
    /// The cluster's domain: DNS answers its names with --router-addrs.
    #[arg(long, env = "CLUSTER_DOMAIN")]
    domain: Option<String>,
    /// The router's addresses, a comma list; the address of --host by default.
    #[arg(long, env = "ROUTER_ADDRS", value_delimiter = ',')]
    router_addrs: Vec<IpAddr>,
    /// The job this runs in.
    #[arg(long, env = "FLYNN_JOB_ID", default_value = "")]
    job_id: String,
}

const DNS_PORT: u16 = 53;

impl Arguments {
    /// The settings these flags mean.
    pub(crate) fn into_config(self) -> anyhow::Result<Config> {
        let listen = self
            .listen_addrs()
            .iter()
            .map(|addr| parse_listen(addr))
            .collect::<Result<Vec<_>, _>>()?;
        let first = *listen.first().context("--addr names no address")?;
        let status = || format!("http://{}:1113/host/status", self.host);
        Ok(Config {
            listen,
            dns: self.dns()?,
            wait_net_dns: self
                .wait_net_dns
                .then(|| self.host_status.clone().unwrap_or_else(status)),
            domain: self.cluster_domain()?,
            peers: self.peers.iter().filter(|peer| !peer.is_empty()).cloned().collect(),
            notify: self.notify_url(),
            job_id: self.job_id,
            ..Config::new(self.data_dir, first, &self.host)
        })
    }

    fn listen_addrs(&self) -> Vec<String> {
        let given: Vec<_> = self.addr.iter().filter(|addr| !addr.is_empty()).cloned().collect();
        match (given.is_empty(), self.job_id.is_empty()) {
            (false, _) => given,
            (true, true) => vec![":1111".to_owned()],
            (true, false) => vec![format!("{}:1111", self.host), "127.0.0.1:1111".to_owned()],
        }
    }

    /// The host a job runs on wants to know; its address is the job's.
    fn notify_url(&self) -> Option<String> {
        let own = || format!("http://{}:1113/host/discoverd", self.host);
        let in_job = !self.job_id.is_empty();
        self.notify.clone().filter(|url| !url.is_empty()).or_else(|| in_job.then(own))
    }

    fn dns(&self) -> anyhow::Result<Option<DnsConfig>> {
        let Some(addr) = &self.dns_addr else { return Ok(None) };
        let recursors = self.recursors.iter().filter(|text| !text.is_empty());
        let recursors = recursors.map(|text| resolve(text)).collect::<Result<_, _>>()?;
        Ok(Some(DnsConfig { listen: parse_listen(addr)?, recursors }))
    }

    fn cluster_domain(&self) -> anyhow::Result<Option<ClusterDomain>> {
        let Some(domain) = self.domain.as_ref().filter(|domain| !domain.is_empty()) else {
            return Ok(None);
        };
        // A domain may come with the router's port, which names no part of DNS.
        let name = domain.split(':').next().unwrap_or_default().to_owned();
        let addrs = if self.router_addrs.is_empty() {
            let own = self.host.parse().with_context(|| {
                format!("--host {} is no address: give --router-addrs for --domain", self.host)
            })?;
            vec![own]
        } else {
            self.router_addrs.clone()
        };
        Ok(Some(ClusterDomain { name, addrs }))
    }
}

/// `host:port`; an empty host means every address.
fn parse_listen(text: &str) -> anyhow::Result<SocketAddr> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole.parse().with_context(|| format!("{text:?} is no address to listen on: write IP:PORT"))
}

/// An address, or a name that is looked up once.
fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    let with_port = if text.rsplit_once(':').is_some() {
        text.to_owned()
    } else {
        format!("{text}:{DNS_PORT}")
    };
    let mut found =
        with_port.to_socket_addrs().with_context(|| format!("recursor {text:?} is not known"))?;
    found.next().with_context(|| format!("recursor {text:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn config(flags: &[&str]) -> anyhow::Result<Config> {
        let flags = ["discoverd", "--host", "192.0.2.1"].iter().chain(flags);
        Whole::try_parse_from(flags)?.arguments.into_config()
    }

    #[test]
    fn flags_become_settings() {
        let flags = ["--peers", "192.0.2.1:1111,192.0.2.2:1111", "--addr", ":1234,127.0.0.1:1234"];
        let config = config(&flags).unwrap();
        assert_eq!(config.peers, ["192.0.2.1:1111", "192.0.2.2:1111"]);
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:1234", "127.0.0.1:1234"]);
        assert_eq!((config.dns, config.wait_net_dns), (None, None));
    }

    #[test]
    fn a_job_leaves_the_bridge_to_its_host_and_tells_it_where_discoverd_is() {
        let config = config(&["--job-id", "host1-x"]).unwrap();
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["192.0.2.1:1111", "127.0.0.1:1111"]);
        assert_eq!(config.notify.as_deref(), Some("http://192.0.2.1:1113/host/discoverd"));
    }

    #[test]
    fn recursors_get_the_port_of_dns() {
        let flags = ["--dns-addr", "127.0.0.1:5353", "--recursors", "8.8.8.8,127.0.0.1:54,::1"];
        let dns = config(&flags).unwrap().dns.unwrap();
        let recursors: Vec<_> = dns.recursors.iter().map(ToString::to_string).collect();
        assert_eq!(recursors, ["8.8.8.8:53", "127.0.0.1:54", "[::1]:53"]);
    }

    #[test]
    fn the_domain_loses_its_port_and_gets_the_routers_addresses() {
        let domain = config(&["--domain", "flynn.localhost:8080"]).unwrap().domain.unwrap();
        assert_eq!(
            (domain.name.as_str(), domain.addrs),
            ("flynn.localhost", vec!["192.0.2.1".parse().unwrap()])
        );
        assert_eq!(
            config(&["--wait-net-dns"]).unwrap().wait_net_dns.as_deref(),
            Some("http://192.0.2.1:1113/host/status")
        );
    }
}
