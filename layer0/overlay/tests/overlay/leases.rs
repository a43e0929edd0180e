//! How hosts come to their subnets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use kit_http::Client;
use kit_tasks::{Running, Tasks};
use netplan::{BackendKind, ConfigInput};
use overlay::Config;
use serde_json::json;

use crate::servers::{Discoverd, Host, until};

const GRACE: Duration = Duration::from_secs(30);

/// The overlay of the host with a loopback address of its own.
fn config(number: u8, host_url: &str, dir: &Path) -> Config {
    let external_ip = Ipv4Addr::new(127, 0, 0, number);
    Config {
        listen: (external_ip, 0).into(),
        external_ip,
        host_url: host_url.to_owned(),
        job_id: format!("host{number}-flannel"),
        data_dir: dir.join(number.to_string()),
        network: ConfigInput {
            subnet_max: Some(Ipv4Addr::new(10, 3, 5, 0)),
            ..ConfigInput::of("10.3.0.0/16".parse().unwrap())
        },
        backend: Some(BackendKind::Alloc),
        mtu: Some(1450),
        recheck: Duration::from_millis(200),
    }
}

async fn get(running: &Running, path: &str) -> (u16, String) {
    let client = Client::new(&format!("http://{}", running.addr())).unwrap();
    let answer = client.send_raw(kit_http::Request::get(path)).await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_new_host_takes_a_subnet_and_tells_its_daemon() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    let (host, url) = Host::start().await;
    let running = overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    assert_eq!(get(&running, "/ping").await, (200, String::new()));
    let (status, text) = get(&running, "/.well-known/status").await;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("the host has no subnet yet"), "{text}");

    host.knows(&server);
    let told = until("the daemon to be told", || host.told().into_iter().next()).await;
    assert_eq!((told.job_id.as_str(), told.mtu), ("host2-flannel", 1450));
    let subnet = told.subnet.replace(".1/24", ".0-24");
    let port = running.addr().port();
    let entry =
        json!({ "PublicIP": "127.0.0.2", "HTTPPort": port.to_string(), "BackendType": "alloc" });
    let overlay = told.overlay.unwrap();
    assert_eq!((overlay.network.as_str(), overlay.backend.as_str()), ("10.3.0.0/16", "alloc"));
    assert_eq!(overlay.hosts, [Ipv4Addr::new(127, 0, 0, 2)]);
    assert_eq!(
        discoverd.timeless_meta(),
        json!({
            "config": { "Network": "10.3.0.0/16", "SubnetMax": "10.3.5.0", "Backend": { "Type": "alloc" } },
            "subnets": { subnet: entry },
        })
    );
    let addr = running.addr().to_string();
    until("the registration", || discoverd.instances().contains(&addr).then_some(())).await;
    let healthy = until_status(&running, 200).await;
    assert_eq!(
        healthy,
        "{\n  \"data\": {\n    \"status\": \"healthy\",\n    \"version\": \"0.1.0\"\n  }\n}\n"
    );
    tasks.shutdown(GRACE).await;
}

async fn until_status(running: &Running, wanted: u16) -> String {
    let deadline = tokio::time::Instant::now() + GRACE;
    loop {
        let (status, text) = get(running, "/.well-known/status").await;
        if status == wanted {
            return text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_host_that_boots_without_quorum_has_its_network() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (_discoverd, server) = Discoverd::start().await;
    let (host, url) = Host::start().await;
    host.knows(&server);
    let running = overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    let before = until("the first lease", || host.told().into_iter().next()).await;
    running.stop(GRACE).await;

    let (rebooted, url) = Host::start().await;
    let running = overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    let after = until("the remembered lease", || rebooted.told().into_iter().next()).await;
    assert_eq!(after, before);
    until_status(&running, 200).await;
    tasks.shutdown(GRACE).await;
}

#[tokio::test]
async fn hosts_that_start_together_share_the_network_without_overlap() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    let mut hosts = Vec::new();
    for number in 2..7 {
        let (host, url) = Host::start().await;
        host.knows(&server);
        overlay::start(config(number, &url, dir.path()), &tasks).await.unwrap();
        hosts.push(host);
    }
    let mut subnets = BTreeSet::new();
    for host in &hosts {
        let told = until("every host to be told", || host.told().into_iter().next()).await;
        subnets.insert(told.subnet);
    }
    let all = (1..=5).map(|n| format!("10.3.{n}.1/24")).collect::<BTreeSet<_>>();
    assert_eq!(subnets, all, "five hosts, five subnets");

    let (late, url) = Host::start().await;
    late.knows(&server);
    let running = overlay::start(config(7, &url, dir.path()), &tasks).await.unwrap();
    let full = loop {
        let (_, text) = get(&running, "/.well-known/status").await;
        if text.contains("out of subnets") {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(full.contains("all 5 subnets of length 24 in 10.3.0.0/16 are leased"), "{full}");
    assert_eq!(late.told(), []);
    assert_eq!(discoverd.meta()["subnets"].as_object().unwrap().len(), 5);
    tasks.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_host_with_a_new_disk_gets_its_old_subnet_and_others_are_left_alone() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    let foreign = json!({ "PublicIP": "192.0.2.9", "BackendType": "carrier-pigeon", "Wings": 2 });
    discoverd.set(&json!({
        "config": { "Network": "10.3.0.0/16", "Backend": { "Type": "alloc" } },
        "subnets": {
            "10.3.77.0-24": { "PublicIP": "127.0.0.2", "HTTPPort": "5002", "BackendType": "alloc" },
            "10.3.78.0-24": foreign,
        },
    }));
    let (host, url) = Host::start().await;
    host.knows(&server);
    let running = overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    let told = until("the old lease", || host.told().into_iter().next()).await;
    assert_eq!(told.subnet, "10.3.77.1/24");
    let subnets = &discoverd.meta()["subnets"];
    assert_eq!(subnets["10.3.78.0-24"], foreign);
    assert_eq!(subnets["10.3.77.0-24"]["HTTPPort"], running.addr().port().to_string());
    tasks.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_lease_that_vanished_is_written_again() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    let (host, url) = Host::start().await;
    host.knows(&server);
    overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    let told = until("the lease", || host.told().into_iter().next()).await;
    let key = told.subnet.replace(".1/24", ".0-24");
    let config = json!({ "Network": "10.3.0.0/16", "Backend": { "Type": "alloc" } });
    discoverd.set(&json!({ "config": config }));
    until("the same lease", || discoverd.meta()["subnets"].get(&key).cloned()).await;
    assert_eq!(host.told(), [told], "the daemon hears of changes only");
    tasks.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_host_whose_neighbours_do_not_answer_is_unwell() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    // Nobody listens on the discard port of this loopback address.
    let silent = json!({ "PublicIP": "127.0.0.99", "HTTPPort": "9", "BackendType": "alloc" });
    discoverd.set(&json!({
        "config": { "Network": "10.3.0.0/16", "Backend": { "Type": "alloc" } },
        "subnets": { "10.3.9.0-24": silent },
    }));
    let (host, url) = Host::start().await;
    host.knows(&server);
    let running = overlay::start(config(2, &url, dir.path()), &tasks).await.unwrap();
    until("the lease", || host.told().into_iter().next()).await;
    let text = loop {
        let (_, text) = get(&running, "/.well-known/status").await;
        if text.contains("none of 1 neighbours answers") {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(text.contains("unhealthy"), "{text}");

    let (second, url) = Host::start().await;
    second.knows(&server);
    overlay::start(config(3, &url, dir.path()), &tasks).await.unwrap();
    until_status(&running, 200).await;
    tasks.shutdown(GRACE).await;
}

/// Everything is leased: to a host silent for nine days, to one for three, to one that says nothing of it,
/// and to one whose clock stood still but which is there.
#[tokio::test]
async fn a_lease_is_given_away_after_a_week_of_silence() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let (discoverd, server) = Discoverd::start().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let lease = |host: &str, days: u64| json!({ "PublicIP": host, "BackendType": "alloc", "Seen": now - days * 86_400 });
    let leases = json!({
        "10.3.1.0-24": lease("192.0.2.1", 3),
        "10.3.2.0-24": lease("192.0.2.2", 30),
        "10.3.3.0-24": lease("192.0.2.3", 9),
        "10.3.4.0-24": { "PublicIP": "192.0.2.4", "BackendType": "alloc" },
    });
    let config = json!({ "Network": "10.3.0.0/16", "SubnetMax": "10.3.4.0", "Backend": { "Type": "alloc" } });
    discoverd.set(&json!({ "config": config, "subnets": leases }));
    discoverd.register("192.0.2.2:5002");
    let (host, url) = Host::start().await;
    host.knows(&server);
    overlay::start(self::config(2, &url, dir.path()), &tasks).await.unwrap();
    let told = until("a lease", || host.told().into_iter().next()).await;
    assert_eq!(told.subnet, "10.3.3.1/24");
    let meta = discoverd.meta();
    assert_eq!(meta["subnets"]["10.3.3.0-24"]["PublicIP"], "127.0.0.2");
    assert!(meta["subnets"]["10.3.3.0-24"]["Seen"].as_u64() >= Some(now));
    assert_eq!(meta["subnets"].as_object().unwrap().len(), 4);
    tasks.shutdown(GRACE).await;
}
