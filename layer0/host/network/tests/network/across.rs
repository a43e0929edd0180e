//! Who reaches whom on another host: two hosts with their own networks, a cable between them, and both
//! ways that there are over it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use host_network::{Config, JobNetwork, JobRequest, Network, Overlay, Partition, Way};

use crate::world::{
    DEADLINE, HOST, PEER, STRANGER, World, connect, datagrams, in_a_world, in_a_world_where,
    inside, ip, job, reaches, receive, run_program, serve_inside,
};

/// The ends of the cable.
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The tunnel devices: the first addresses of the subnets.
pub(crate) const FIRST_DEVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
pub(crate) const SECOND_DEVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 0);
const SECOND_BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 1);

pub(crate) const TUNNEL: Way = Way::Tunnel { vni: 1, port: 8472 };

/// One job of each kind.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) user: JobNetwork,
    pub(crate) background: JobNetwork,
    pub(crate) system: JobNetwork,
}

async fn jobs(network: &Network) -> Jobs {
    let attach = async |name, partition| {
        network.attach_job(JobRequest::new(job(name), partition)).await.unwrap()
    };
    let system = JobRequest::new(job("system"), Partition::System).serving_builds(8088);
    Jobs {
        user: attach("user", Partition::User).await,
        background: attach("background", Partition::Background).await,
        system: network.attach_job(system).await.unwrap(),
    }
}

pub(crate) fn overlay(way: Way, other: Ipv4Addr) -> Overlay {
    Overlay { network: "10.77.0.0/16".parse().unwrap(), way, hosts: [other].into() }
}

/// The jobs of this host, and those of the other one.
pub(crate) async fn two_hosts(world: &World, way: Way) -> (Network, Jobs, Jobs, PathBuf) {
    let there = world.namespace("second");
    ip("link add cable0 type veth peer name cable1");
    ip(&format!("link set cable1 netns {}", there.display()));
    ip(&format!("addr add {FIRST}/24 dev cable0"));
    ip("link set cable0 up");
    let network = world.network().await;
    network.set_overlay(overlay(way, SECOND)).await.unwrap();
    way_to(way, FIRST, FIRST_DEVICE, SECOND, SECOND_DEVICE);
    network.follow_tunnel().await;
    let config = Config { data_dir: world.dir().join("second-network"), ..world.config() };
    let config = Config { external_ip: SECOND, fast_path: world.fast_path[1], ..config };
    let second = inside(&there, move || {
        ip("link set lo up");
        ip(&format!("addr add {SECOND}/24 dev cable1"));
        ip("link set cable1 up");
        way_to(way, SECOND, SECOND_DEVICE, FIRST, FIRST_DEVICE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let network = Network::open(config).await.unwrap();
            network.set_overlay(overlay(way, FIRST)).await.unwrap();
            let subnet = format!("{SECOND_BRIDGE}/24");
            network.configure(subnet.parse().unwrap(), 1450).await.unwrap();
            jobs(&network).await
        })
    });
    let first = jobs(&network).await;
    (network, first, second, there)
}

/// What the overlay makes, by other programs.
fn way_to(way: Way, here: Ipv4Addr, device: Ipv4Addr, there: Ipv4Addr, subnet: Ipv4Addr) {
    match way {
        Way::None => {}
        Way::Routes => ip(&format!("route add {subnet}/24 via {there}")),
        Way::Tunnel { .. } => {
            tunnel(here, device);
            entries(there, subnet);
        }
    }
}

fn mac(device: Ipv4Addr) -> String {
    format!("fe:02:00:00:00:{:02x}", device.octets()[2])
}

pub(crate) fn tunnel(here: Ipv4Addr, device: Ipv4Addr) {
    ip(&format!("link add flannel.1 type vxlan id 1 dstport 8472 local {here} nolearning"));
    ip(&format!("link set flannel.1 address {} mtu 1450 up", mac(device)));
    ip(&format!("addr add {device}/16 dev flannel.1"));
}

pub(crate) fn entries(there: Ipv4Addr, subnet: Ipv4Addr) {
    let mac = mac(subnet);
    run_program("bridge", &format!("fdb add {mac} dev flannel.1 dst {there}"));
    ip(&format!("neigh add {subnet} lladdr {mac} dev flannel.1 nud permanent"));
    ip(&format!("route replace {subnet}/24 via {subnet} dev flannel.1 onlink"));
}

/// What differs from the table; tried from a namespace, or from this host itself.
fn check(
    name: &str,
    from: Option<&Path>,
    to: Ipv4Addr,
    ports: &[u16],
    expected: bool,
) -> Vec<String> {
    let list = ports.to_vec();
    let test = move || {
        list.into_iter().filter(|port| reaches(None, to, *port, expected) != expected).collect()
    };
    let wrong: Vec<u16> = match from {
        Some(namespace) => inside(namespace, test),
        None => test(),
    };
    let verb = if expected { "does not reach" } else { "reaches" };
    wrong.into_iter().map(|port| format!("{name} {verb} {to}:{port}")).collect()
}

/// The rules of D5, wherever the other job is.
fn wrong_between(first: &Jobs, second: &Jobs, there: &Path) -> Vec<String> {
    serve_inside(&second.user.netns, second.user.ip, &[8080]);
    serve_inside(&second.background.netns, second.background.ip, &[8080]);
    serve_inside(&second.system.netns, second.system.ip, &[5432, 8080, 8088]);
    serve_inside(there, SECOND_BRIDGE, &[53, 1111, 9000]);
    let mut wrong = Vec::new();
    for (name, from, to, ports, expected) in [
        ("user", &first.user, second.user.ip, &[8080_u16][..], true),
        ("user", &first.user, second.system.ip, &[5432], true),
        ("user", &first.user, second.system.ip, &[8080, 8088], false),
        ("user", &first.user, second.background.ip, &[8080], false),
        ("user", &first.user, SECOND_BRIDGE, &[53, 1111, 9000], false),
        ("background", &first.background, second.user.ip, &[8080], true),
        ("background", &first.background, second.system.ip, &[5432, 8088], true),
        ("background", &first.background, second.system.ip, &[8080], false),
        ("background", &first.background, second.background.ip, &[8080], false),
        ("background", &first.background, SECOND_BRIDGE, &[1111], false),
        ("system", &first.system, second.user.ip, &[8080], true),
        ("system", &first.system, second.background.ip, &[8080], true),
        ("system", &first.system, second.system.ip, &[5432, 8080, 8088], true),
    ] {
        wrong.extend(check(name, Some(&from.netns), to, ports, expected));
    }
    wrong.extend(check("host", None, second.user.ip, &[8080], true));
    let to = second.user.ip;
    let seen = inside(&first.user.netns, move || connect(None, to, 8080, DEADLINE));
    if seen != Some(first.user.ip.to_string()) {
        wrong.push(format!("between jobs addresses are kept, but {to} saw {seen:?}"));
    }
    wrong
}

#[test]
fn partitions_hold_across_hosts_through_a_tunnel() {
    in_a_world(partitions_hold_through_a_tunnel);
}

#[test]
fn partitions_hold_where_one_host_or_both_have_no_fast_path() {
    for fast_path in [[false, true], [true, false], [false, false]] {
        in_a_world_where(fast_path, partitions_hold_through_a_tunnel);
    }
}

async fn partitions_hold_through_a_tunnel(world: World) {
    let (_network, first, second, there) = two_hosts(&world, TUNNEL).await;
    let mut wrong = wrong_between(&first, &second, &there);
    serve_inside(&there, SECOND_DEVICE, &[1113, 9000]);
    for (name, from, expected) in [
        ("user", Some(&first.user.netns), false),
        ("background", Some(&first.background.netns), false),
        ("system", Some(&first.system.netns), true),
        ("host", None, true),
    ] {
        let from = from.map(PathBuf::as_path);
        wrong.extend(check(name, from, SECOND_DEVICE, &[1113, 9000], expected));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn partitions_hold_across_hosts_over_a_common_link() {
    in_a_world(|world| async move {
        let (_network, first, second, there) = two_hosts(&world, Way::Routes).await;
        let wrong = wrong_between(&first, &second, &there);
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn nobody_is_relayed_into_the_tunnel() {
    in_a_world(|world| async move {
        let (_network, _first, second, _there) = two_hosts(&world, TUNNEL).await;
        serve_inside(&second.user.netns, second.user.ip, &[8080]);
        let to = second.user.ip;
        let reached = inside(&world.outside(), move || {
            ip(&format!("route add {SECOND_DEVICE}/24 via {HOST}"));
            [STRANGER, PEER].map(|from| reaches(Some(from), to, 8080, false))
        });
        assert_eq!(reached, [false, false]);
    });
}

#[test]
fn a_tunnel_packet_of_a_stranger_is_dropped() {
    in_a_world(|world| async move {
        let (_network, first, _second, _there) = two_hosts(&world, TUNNEL).await;
        let inbox = datagrams(&first.user.netns, first.user.ip, 7000);
        let to = first.user.ip;
        let send_as = |host: Ipv4Addr, text: &'static [u8]| {
            inside(&world.outside(), move || {
                let device = Ipv4Addr::new(10, 77, 66, 0);
                tunnel(host, device);
                entries(HOST, FIRST_DEVICE);
                let socket = std::net::UdpSocket::bind((device, 0)).unwrap();
                // What a system job of a known host would carry.
                socket2::SockRef::from(&socket).set_tos_v4(9 << 2).unwrap();
                socket.send_to(text, (to, 7000)).unwrap();
                ip("link del flannel.1");
            });
        };
        send_as(STRANGER, b"a lie");
        send_as(PEER, b"from a known host");
        assert_eq!(receive(&inbox), "from a known host", "packets keep their order on the cable");
    });
}

#[test]
fn a_job_cannot_say_that_it_is_another_kind() {
    in_a_world(|world| async move {
        let (_network, first, second, _there) = two_hosts(&world, TUNNEL).await;
        let inbox = datagrams(&second.system.netns, second.system.ip, 7000);
        let to = (second.system.ip, 7000);
        let liar = datagrams(&first.user.netns, first.user.ip, 0);
        socket2::SockRef::from(&liar).set_tos_v4(9 << 2).unwrap();
        let honest = datagrams(&first.system.netns, first.system.ip, 0);
        liar.send_to(b"a lie", to).unwrap();
        honest.send_to(b"the truth", to).unwrap();
        assert_eq!(receive(&inbox), "the truth");
    });
}

#[test]
fn without_a_way_between_hosts_user_jobs_reach_nothing_of_the_network() {
    in_a_world(|world| async move {
        let (network, first, second, _there) = two_hosts(&world, TUNNEL).await;
        serve_inside(&second.user.netns, second.user.ip, &[8080]);
        let from = Some(first.user.netns.as_path());
        let mut wrong = check("user", from, second.user.ip, &[8080], true);
        network.set_overlay(overlay(Way::None, SECOND)).await.unwrap();
        wrong.extend(check("user", from, second.user.ip, &[8080], false));
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn what_was_told_of_other_hosts_is_remembered_and_torn_down() {
    in_a_world(|world| async move {
        let (network, first, second, _there) = two_hosts(&world, TUNNEL).await;
        drop(network);
        let network = Network::open(world.config()).await.unwrap();
        serve_inside(&second.user.netns, second.user.ip, &[8080]);
        let from = Some(first.user.netns.as_path());
        assert_eq!(check("user", from, second.user.ip, &[8080], true), Vec::<String>::new());
        network.teardown().await.unwrap();
        let links = crate::world::output_of("ip", &["-o", "link", "show"]);
        assert!(!links.contains("flannel.1"), "{links}");
    });
}
