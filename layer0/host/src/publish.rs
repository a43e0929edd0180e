//! The host in discoverd: registered with its tags once it knows where discoverd is, and watching its
//! peers, for the firewall and for layers, and the log aggregators. Discoverd may be away at any time.

use std::collections::BTreeMap;
use std::sync::Arc;

use discoverd_api::{Client, Heartbeat, Instance, Servers, ServiceConfig};
use host_api::MemberChange;
use tokio::sync::watch;

use crate::host::Host;
use crate::members;
use crate::settings::Told;
use crate::sinks::follow_aggregators;

/// The service all hosts are in.
const SERVICE: &str = "flynn-host";

/// Keeps the host published, whatever it is told, until the task ends.
pub(crate) async fn publish(host: Arc<Host>) {
    let mut told = host.settings.watch();
    loop {
        let urls = url_of(&told.borrow_and_update());
        let urls = match urls {
            Some(urls) => urls,
            // A host that joins is seen before it has a discoverd of its own.
            None => tokio::select! {
                changed = told.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                urls = members::discoverd_of_peers(&host) => urls,
            },
        };
        let client = match Client::new(&Servers::parse(&urls)) {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%urls, %error, "discoverd's URLs cannot be used");
                if told.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        let tasks = host.tasks.child("discoverd");
        tasks.spawn_until_stop("peers", peers(host.clone(), client.clone()));
        let aggregators = follow_aggregators(host.clone(), client.clone());
        tasks.spawn_until_stop("log aggregators", aggregators);
        let instance = Instance { meta: meta(&host), ..Instance::new("tcp", &address(&host)) };
        let heartbeat = client.announce(&tasks, SERVICE, ServiceConfig::default(), instance);
        until_other_urls(&host, &heartbeat, &mut told, &urls).await;
        // The next one is for the same instance, which was there all the time.
        heartbeat.hand_over().await;
        tasks.stop();
    }
}

/// Follows tags until discoverd is somewhere else.
async fn until_other_urls(
    host: &Host,
    heartbeat: &Heartbeat,
    told: &mut watch::Receiver<Told>,
    urls: &str,
) {
    while told.changed().await.is_ok() {
        let now = url_of(&told.borrow_and_update());
        if now.is_some_and(|now| now != urls) {
            return;
        }
        heartbeat.set_meta(meta(host));
    }
}

async fn peers(host: Arc<Host>, client: Client) {
    let mut watch = client.watch(SERVICE);
    loop {
        watch.next().await;
        let addrs = watch.instances().values().map(|instance| &instance.addr);
        let add = addrs.filter_map(|addr| addr.split(':').next()?.parse().ok()).collect();
        let seen = MemberChange { add, remove: Vec::new() };
        if let Err(error) = members::change(&host, seen).await {
            tracing::error!(%error, "members of the cluster not kept");
        }
    }
}

fn url_of(told: &Told) -> Option<String> {
    let url = &told.discoverd.as_ref()?.url;
    (!url.is_empty()).then(|| url.clone())
}

/// `ip:port` of the API.
fn address(host: &Host) -> String {
    host.url.trim_start_matches("http://").to_owned()
}

fn meta(host: &Host) -> BTreeMap<String, String> {
    let tags = host.settings.now().published_tags.unwrap_or_else(|| host.config.tags.clone());
    let mut meta: BTreeMap<_, _> =
        tags.into_iter().map(|(key, value)| (format!("tag:{key}"), value)).collect();
    meta.insert("id".to_owned(), host.config.id.to_string());
    if host.settings.now().draining {
        meta.insert("shutdown".to_owned(), "true".to_owned());
    }
    meta
}
