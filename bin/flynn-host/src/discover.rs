//! `flynn-host discover`: services of discoverd and their instances.

use anyhow::anyhow;
use clap::Args;
use discoverd_api::{Client, Instance, ServiceMeta};
use serde::Serialize;

use crate::say;
use crate::table::{render, row};

/// Arguments of `discover`.
#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// Leader, instances and metadata of each, as JSON.
    #[arg(long)]
    json: bool,
    /// Services.
    #[arg(required = true)]
    services: Vec<String>,
}

/// A service as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    name: String,
    leader: Instance,
    instances: Vec<Instance>,
    meta: Option<Meta>,
}

/// The form of the original, whose two fields are written differently.
#[derive(Debug, Serialize)]
struct Meta {
    #[serde(rename = "Data")]
    data: serde_json::Value,
    index: u64,
}

/// A service that nobody made has no row, and no JSON.
pub(crate) async fn run(args: &DiscoverArgs) -> anyhow::Result<()> {
    let client = Client::from_env()?;
    if args.json {
        let mut all = Vec::new();
        for service in &args.services {
            all.push(shown(&client, service).await?);
        }
        say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        return Ok(());
    }
    let mut rows = vec![row(["SERVICE", "ID", "ADDR"])];
    for service in &args.services {
        let instances = client.instances(service).await?;
        rows.extend(
            instances.iter().map(|found| row([service, found.id.as_str(), found.addr.as_str()])),
        );
    }
    say(&render(&rows));
    Ok(())
}

async fn shown(client: &Client, service: &str) -> anyhow::Result<Shown> {
    let leader = client.leader(service).await?;
    let leader = leader.ok_or_else(|| anyhow!("object_not_found: no leader found"))?;
    let instances = client.instances(service).await?;
    let meta = client.meta(service).await?.as_ref().map(meta).transpose()?;
    Ok(Shown { name: service.to_owned(), leader, instances, meta })
}

fn meta(meta: &ServiceMeta) -> Result<Meta, serde_json::Error> {
    Ok(Meta { data: meta.parse()?, index: meta.index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_names_of_the_original() {
        let leader = Instance::new("tcp", "192.0.2.1:80");
        let stored = ServiceMeta::replace(7, &serde_json::json!({"a": 1})).unwrap();
        let shown = Shown {
            name: "web".to_owned(),
            instances: vec![leader.clone()],
            leader,
            meta: Some(meta(&stored).unwrap()),
        };
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["Name"], "web");
        assert_eq!(json["Leader"]["addr"], "192.0.2.1:80");
        assert_eq!(json["Instances"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["Meta"], serde_json::json!({"Data": {"a": 1}, "index": 7}));
    }
}
