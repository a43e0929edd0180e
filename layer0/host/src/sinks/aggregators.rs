//! The cluster's log aggregators, as discoverd knows them: each is a sink of every host.

use std::collections::BTreeMap;
use std::sync::Arc;

use discoverd_api::{Client, Instance};
use host_api::SinkInfo;
use serde_json::json;

use crate::host::Host;

/// The service of aggregators; its addresses are those for lines.
const SERVICE: &str = "logaggregator";
/// Instance metadata: where an aggregator's HTTP is, when not on port 80.
const HTTP_PORT: &str = "http_port";

/// Keeps a sink for every aggregator until it is dropped.
pub(crate) async fn follow_aggregators(host: Arc<Host>, client: Client) {
    let mut watch = client.watch(SERVICE);
    loop {
        watch.next().await;
        let sinks = watch.instances().values().map(sink).map(|sink| (sink.id.clone(), sink));
        host.sinks.set_host_managed(&sinks.collect::<BTreeMap<_, _>>());
    }
}

fn sink(instance: &Instance) -> SinkInfo {
    let mut config = json!({ "addr": instance.addr });
    if let (Some(port), Some(ip)) = (instance.meta.get(HTTP_PORT), instance.host()) {
        config["http"] = json!(format!("http://{ip}:{port}"));
    }
    SinkInfo {
        id: instance.addr.clone(),
        kind: "logaggregator".to_owned(),
        cursor: None,
        config,
        host_managed: true,
    }
}
