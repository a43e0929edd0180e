//! The ways between hosts on a real kernel: made, kept right, kept over restarts, removed.

use netplan::BackendKind;
use serde_json::json;

use crate::servers::until;
use crate::world::{Machine, World, arrives, in_a_world};

/// The largest UDP payload of a job: the switch's 1500 less the tunnel's 50, less IP and UDP headers.
const FULL: usize = 1500 - 50 - 28;

/// Hosts 1 to `count`, each with its subnet.
async fn hosts(world: &World, count: u8, backend: Option<BackendKind>) -> Vec<(Machine, String)> {
    let mut hosts = Vec::new();
    for number in 1..=count {
        let mut host = world.host(number).await;
        let subnet = host.start(backend).await;
        hosts.push((host, subnet));
    }
    hosts
}

/// Waits until each host has so many routes to others, and all else that belongs to them.
async fn connected(hosts: &[(Machine, String)]) {
    let others = hosts.len() - 1;
    for (host, _) in hosts {
        until("routes to all others", || {
            let [routes, neighbours, forwarding] = host.entries();
            let counts = (routes.len(), neighbours.len(), forwarding.len());
            (counts == (others, others, others)).then_some(())
        })
        .await;
    }
}

#[test]
fn the_second_host_brings_the_tunnel_and_all_reach_all() {
    in_a_world(|world| async move {
        let mut first = world.host(1).await;
        let subnet = first.start(None).await;
        assert!(!first.has_tunnel(), "one host needs none");
        assert_eq!(first.daemon.told()[0].mtu, 1450, "but has room for one");
        let mut all = vec![(first, subnet)];
        for number in [2, 3] {
            let mut host = world.host(number).await;
            let subnet = host.start(None).await;
            all.push((host, subnet));
        }
        connected(&all).await;
        let meta = world.discoverd.meta();
        assert_eq!(meta["config"]["Backend"]["Type"], "vxlan");
        for lease in meta["subnets"].as_object().unwrap().values() {
            assert_eq!(lease["BackendType"], "vxlan");
            assert!(
                lease["BackendData"]["VtepMAC"].as_str().unwrap().starts_with("fe:02:c0:00:02:")
            );
        }
        let jobs: Vec<_> = all.iter().map(|(host, subnet)| host.job(subnet)).collect();
        for from in &jobs {
            for to in
                jobs.iter().filter(|to| to.local_addr().unwrap() != from.local_addr().unwrap())
            {
                arrives(from, to, 10).await;
                arrives(from, to, FULL).await;
            }
        }
        let addresses: Vec<_> = all.iter().map(|(host, _)| host.ip).collect();
        for (host, subnet) in &all {
            assert_eq!(host.fragments(), 0, "a full packet fits as it is");
            let told = until("the daemon to know all", || {
                let told = host.daemon.told().pop()?;
                (told.overlay.as_ref()?.hosts == addresses).then_some(told)
            })
            .await;
            assert_eq!((told.mtu, &told.subnet), (1450, subnet));
            let overlay = told.overlay.unwrap();
            assert_eq!((overlay.backend.as_str(), overlay.vni, overlay.port), ("vxlan", 1, 8472));
        }
    });
}

#[test]
fn what_somebody_broke_is_mended_and_what_is_strange_removed() {
    in_a_world(|world| async move {
        let all = hosts(&world, 3, Some(BackendKind::Vxlan)).await;
        connected(&all).await;
        let host = &all[0].0;
        let before = host.entries();
        let route = &before[0][0];
        let to = route.split(' ').next().unwrap();
        host.run(&format!("route del {to}"));
        host.run("route add 10.3.200.0/24 via 10.3.200.0 dev flannel.1 onlink proto 241");
        host.run("neigh add 10.3.200.0 lladdr fe:02:01:02:03:04 dev flannel.1 nud permanent");
        host.program("bridge", "fdb add fe:02:01:02:03:04 dev flannel.1 dst 192.0.2.99");
        let neighbour = before[1][0].split(' ').next().unwrap();
        host.run(&format!(
            "neigh replace {neighbour} lladdr fe:02:09:09:09:09 dev flannel.1 nud permanent"
        ));
        let mac = before[2][1].split(' ').next().unwrap();
        host.program("bridge", &format!("fdb replace {mac} dev flannel.1 dst 192.0.2.98"));
        until("everything to be as before", || (host.entries() == before).then_some(())).await;
        host.run("route add 198.51.100.0/24 dev up0");
        host.run("link set flannel.1 mtu 1300");
        host.run("addr add 10.9.9.9/24 dev flannel.1");
        until("the device to be as before", || {
            let shown =
                host.run("-o addr show dev flannel.1") + &host.run("-o link show dev flannel.1");
            (shown.contains("mtu 1450") && !shown.contains("10.9.9.9")).then_some(())
        })
        .await;
        host.run("link del flannel.1");
        until("the device to be back", || (host.entries() == before).then_some(())).await;
        assert!(
            host.run("route show").contains("198.51.100.0/24"),
            "others' routes are left alone"
        );
    });
}

#[test]
fn a_restart_changes_nothing_and_stops_no_packet() {
    in_a_world(|world| async move {
        let mut all = hosts(&world, 2, Some(BackendKind::Vxlan)).await;
        connected(&all).await;
        let jobs: Vec<_> = all.iter().map(|(host, subnet)| host.job(subnet)).collect();
        let index = |host: &Machine| {
            host.run("-o link show dev flannel.1").split(':').next().map(str::to_owned)
        };
        let before = (index(&all[0].0), all[0].0.entries());
        all[0].0.stop().await;
        arrives(&jobs[0], &jobs[1], FULL).await;
        let subnet = all[0].0.start(Some(BackendKind::Vxlan)).await;
        assert_eq!(subnet, all[0].1);
        assert_eq!((index(&all[0].0), all[0].0.entries()), before, "the device is the same one");
        arrives(&jobs[1], &jobs[0], FULL).await;
    });
}

#[test]
fn a_host_that_boots_without_quorum_reaches_the_others() {
    in_a_world(|world| async move {
        let mut all = hosts(&world, 2, Some(BackendKind::Vxlan)).await;
        connected(&all).await;
        let jobs: Vec<_> = all.iter().map(|(host, subnet)| host.job(subnet)).collect();
        let before = all[0].0.entries();
        all[0].0.stop().await;
        all[0].0.run("link del flannel.1");
        // A daemon that came up without discoverd names none.
        all[0].0.daemon.forget_discoverd();
        let subnet = all[0].0.start(Some(BackendKind::Vxlan)).await;
        assert_eq!((subnet, all[0].0.entries()), (all[0].1.clone(), before));
        let told = all[0].0.daemon.told().pop().unwrap();
        assert_eq!(told.overlay.unwrap().hosts, [all[0].0.ip, all[1].0.ip]);
        arrives(&jobs[0], &jobs[1], FULL).await;
        arrives(&jobs[1], &jobs[0], FULL).await;
    });
}

#[test]
fn hosts_on_one_link_need_routes_only_and_one_elsewhere_is_named() {
    in_a_world(|world| async move {
        let all = hosts(&world, 2, Some(BackendKind::HostGw)).await;
        let jobs: Vec<_> = all.iter().map(|(host, subnet)| host.job(subnet)).collect();
        arrives(&jobs[0], &jobs[1], 1500 - 28).await;
        assert!(!all[0].0.has_tunnel());
        assert_eq!(all[0].0.daemon.told()[0].mtu, 1500);
        let mut meta = world.discoverd.meta();
        meta["subnets"]["10.3.200.0-24"] =
            json!({ "PublicIP": "198.51.100.7", "HTTPPort": "5002", "BackendType": "host-gw" });
        world.discoverd.set(&meta);
        let url = format!("http://{}:5002", all[0].0.ip);
        let client = kit_http::Client::new(&url).unwrap();
        let status = loop {
            let answer =
                client.send_raw(kit_http::Request::get("/.well-known/status")).await.unwrap();
            let text = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
            if text.contains("unhealthy") {
                break text;
            }
        };
        assert!(status.contains("on no link of this host"), "{status}");
        assert!(status.contains("198.51.100.7") && status.contains("vxlan"), "{status}");
        arrives(&jobs[1], &jobs[0], 1500 - 28).await;
        meta["config"]["Backend"]["Type"] = "vxlan".into();
        world.discoverd.set(&meta);
        until("a tunnel instead", || all[0].0.has_tunnel().then_some(())).await;
        until("one route", || (all[0].0.entries()[0].len() == 1).then_some(())).await;
    });
}

#[test]
fn a_device_of_somebody_else_is_left_alone() {
    in_a_world(|world| async move {
        let mut host = world.host(1).await;
        host.run("link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11 nolearning");
        host.start(Some(BackendKind::Vxlan)).await;
        let client = kit_http::Client::new(&format!("http://{}:5002", host.ip)).unwrap();
        let answer = client.send_raw(kit_http::Request::get("/.well-known/status")).await.unwrap();
        let text = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
        assert!(text.contains("link flannel.1 exists and is not ours"), "{text}");
        assert!(host.has_tunnel());
    });
}
