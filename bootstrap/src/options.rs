//! What the operator asked for, checked before anything is touched.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// What the operator asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `bootstrap.json` is kept.
    pub data_dir: PathBuf,
    /// How many hosts there must be; as many as `peer_ips` by default, else 1.
    pub min_hosts: Option<usize>,
    /// The hosts; none means the one this runs on.
    pub peer_ips: Vec<Ipv4Addr>,
    /// The daemon of the host this runs on.
    pub local_host_url: String,
    /// The port of the other hosts' daemons.
    pub host_port: u16,
    /// How long hosts may take to come up.
    pub timeout: Duration,
    /// How long a job may take to start.
    pub job_timeout: Duration,
    /// How long the target of a wait step may take.
    pub wait_timeout: Duration,
    /// Run these steps only; all if empty.
    pub steps: Vec<String>,
    /// The environment: `CLUSTER_DOMAIN` and the others of the documentation.
    pub env: BTreeMap<String, String>,
    /// A manifest that was named on the command line. There is only ours.
    pub manifest: Option<PathBuf>,
    /// A backup to start from.
    pub from_backup: Option<PathBuf>,
}

/// Why the options cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No hosts at all.
    #[error("invalid --min-hosts value")]
    MinHosts,
    /// Two hosts can have no majority without both.
    #[error("the minimum number of hosts for a multi-node cluster is 3, min-hosts=2 is invalid")]
    TwoHosts,
    /// A manifest of somebody else.
    #[error(
        "{0}: manifests cannot be given: the steps belong to this version, choose among them with --steps"
    )]
    Manifest(String),
    /// Restoring.
    #[error("{0}: this version cannot start a cluster from a backup")]
    FromBackup(String),
    /// A step that does not exist.
    #[error("there is no step {name:?}: there are {known}")]
    UnknownStep {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Options {
    /// One host, this one, with all defaults and no environment.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            min_hosts: None,
            peer_ips: Vec::new(),
            local_host_url: format!("http://127.0.0.1:{}", host_api::PORT),
            host_port: host_api::PORT,
            timeout: Duration::from_secs(120),
            job_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_secs(300),
            steps: Vec::new(),
            env: BTreeMap::new(),
            manifest: None,
            from_backup: None,
        }
    }

    /// How many hosts there must be.
    pub fn hosts_wanted(&self) -> usize {
        self.min_hosts.unwrap_or(self.peer_ips.len().max(1))
    }

    /// Whether databases and the like run once instead of several times.
    pub fn is_singleton(&self) -> bool {
        match self.env.get("SINGLETON").filter(|value| !value.is_empty()) {
            Some(value) => value == "true",
            None => self.hosts_wanted() == 1,
        }
    }

    /// Where the hosts' daemons are.
    pub(crate) fn host_urls(&self) -> Vec<String> {
        if self.peer_ips.is_empty() {
            return vec![self.local_host_url.clone()];
        }
        self.peer_ips.iter().map(|ip| format!("http://{ip}:{}", self.host_port)).collect()
    }

    /// Refuses what cannot be followed.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), OptionsError> {
        if let Some(path) = &self.manifest {
            return Err(OptionsError::Manifest(path.display().to_string()));
        }
        if let Some(path) = &self.from_backup {
            return Err(OptionsError::FromBackup(path.display().to_string()));
        }
        match self.hosts_wanted() {
            0 => return Err(OptionsError::MinHosts),
            2 => return Err(OptionsError::TwoHosts),
            _ => {}
        }
        let unknown = self.steps.iter().find(|name| !known.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            Err(OptionsError::UnknownStep { name: name.clone(), known: known.join(", ") })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_hosts(min_hosts: Option<usize>, peers: u8) -> Options {
        let peer_ips = (0..peers).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
        Options { min_hosts, peer_ips, ..Options::new("/nowhere") }
    }

    #[test]
    fn the_number_of_hosts_is_stated_or_counted() {
        for (options, wanted, singleton) in [
            (with_hosts(None, 0), 1, true),
            (with_hosts(None, 3), 3, false),
            (with_hosts(Some(5), 3), 5, false),
        ] {
            assert_eq!((options.hosts_wanted(), options.is_singleton()), (wanted, singleton));
        }
        let mut forced = with_hosts(None, 3);
        forced.env.insert("SINGLETON".to_owned(), "true".to_owned());
        assert!(forced.is_singleton());
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_the_known_texts() {
        let known = ["discoverd", "flannel"];
        let message = |options: Options| options.check(&known).unwrap_err().to_string();
        assert_eq!(
            message(with_hosts(Some(2), 0)),
            "the minimum number of hosts for a multi-node cluster is 3, min-hosts=2 is invalid"
        );
        assert_eq!(message(with_hosts(Some(0), 0)), "invalid --min-hosts value");
        let steps = vec!["flannel".to_owned(), "nothing".to_owned()];
        assert_eq!(
            message(Options { steps, ..with_hosts(None, 0) }),
            "there is no step \"nothing\": there are discoverd, flannel"
        );
        let manifest = Some(PathBuf::from("/etc/flynn/bootstrap-manifest.json"));
        assert!(message(Options { manifest, ..with_hosts(None, 0) }).contains("--steps"));
        assert_eq!(with_hosts(None, 3).check(&known), Ok(()));
    }
}
