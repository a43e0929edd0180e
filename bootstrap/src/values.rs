//! Values of steps that are known only when the step runs: from the environment, from the hosts, from
//! earlier steps.

use std::collections::BTreeMap;

use crate::record::Record;

/// A text to be worked out when its step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Itself.
    Text(String),
    /// A variable of the bootstrap's environment; empty where it is not set.
    Env(&'static str),
    /// A variable of the bootstrap's environment, and what holds where it is not set.
    EnvOr(&'static str, &'static str),
    /// What an earlier step made.
    Made {
        /// The step.
        step: &'static str,
        /// Which of its results.
        field: &'static str,
    },
    /// The hosts whose discoverd votes as `ip:port,`, sorted: all of a small cluster, five of a large one.
    /// The number is odd, because an even one bears no more losses.
    Peers(u16),
    /// `true` on a single host, else `false`.
    Singleton,
    /// `CLUSTER_DOMAIN` without the port it may carry.
    Domain,
    /// Several, one behind the other.
    Joined(Vec<Value>),
}

/// A value that cannot be worked out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The step it comes from was not run.
    #[error("it needs {field} of step {step}, which was not run yet")]
    NotMade {
        /// The step.
        step: &'static str,
        /// Which of its results.
        field: &'static str,
    },
}

/// What values are worked out from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) host_ips: &'a [String],
    pub(crate) singleton: bool,
    pub(crate) record: &'a Record,
}

impl Value {
    /// A fixed text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// The text.
    pub(crate) fn resolve(&self, facts: Facts<'_>) -> Result<String, ValueError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Env(name) => Ok(facts.env.get(*name).cloned().unwrap_or_default()),
            Self::EnvOr(name, default) => {
                let given = facts.env.get(*name).filter(|value| !value.is_empty());
                Ok(given.map_or(*default, String::as_str).to_owned())
            }
            Self::Made { step, field } => {
                let made = facts.record.field(step, field).map(str::to_owned);
                made.ok_or(ValueError::NotMade { step, field })
            }
            Self::Peers(port) => {
                let voters = voters(facts.host_ips.len());
                let first = facts.host_ips.iter().take(voters);
                Ok(first.map(|ip| format!("{ip}:{port},")).collect())
            }
            Self::Singleton => Ok(facts.singleton.to_string()),
            Self::Domain => {
                let domain =
                    facts.env.get("CLUSTER_DOMAIN").map(String::as_str).unwrap_or_default();
                Ok(domain.split(':').next().unwrap_or_default().to_owned())
            }
            Self::Joined(parts) => parts.iter().map(|part| part.resolve(facts)).collect(),
        }
    }
}

/// How many of so many hosts vote.
fn voters(hosts: usize) -> usize {
    match hosts.min(5) {
        4 => 3,
        count => count,
    }
}

/// Works out an environment. Variables that come out empty are left out.
pub(crate) fn resolve_env(
    env: &[(&'static str, Value)],
    facts: Facts<'_>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let mut resolved = BTreeMap::new();
    for (name, value) in env {
        let value = value.resolve(facts)?;
        if !value.is_empty() {
            resolved.insert((*name).to_owned(), value);
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_environment_hosts_and_steps() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record.keep("key", &serde_json::json!({ "Data": "secret" })).unwrap();
        let env = BTreeMap::from([("CLUSTER_DOMAIN".to_owned(), "x.test".to_owned())]);
        let host_ips = [1, 2, 3, 4].map(|n| format!("192.0.2.{n}"));
        let facts = Facts { env: &env, host_ips: &host_ips, singleton: false, record: &record };
        let made = |step| Value::Made { step, field: "Data" };
        let joined = Value::Joined(vec![Value::text("*."), Value::Env("CLUSTER_DOMAIN")]);
        let resolved = resolve_env(
            &[
                ("DISCOVERD_PEERS", Value::Peers(1111)),
                ("KEY", made("key")),
                ("NOTHING", Value::Env("NOT_SET")),
                ("SINGLETON", Value::Singleton),
                ("NAMES", joined),
            ],
            facts,
        );
        let expected = [
            ("DISCOVERD_PEERS", "192.0.2.1:1111,192.0.2.2:1111,192.0.2.3:1111,"),
            ("KEY", "secret"),
            ("NAMES", "*.x.test"),
            ("SINGLETON", "false"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(resolved, Ok(BTreeMap::from(expected)));
        let missing = made("later").resolve(facts).unwrap_err();
        assert_eq!(missing.to_string(), "it needs Data of step later, which was not run yet");
    }
}
