//! Which packets pass the bridge and which do not, and that nobody notices when the way changes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use host_network::{Config, Network, Partition, Way};

use crate::across::{
    FIRST, FIRST_DEVICE, SECOND, SECOND_DEVICE, TUNNEL, entries, overlay, tunnel, two_hosts,
};
use crate::world::{
    DEADLINE, World, attach, connect, in_a_world, inside, ip, output_of, run_program, serve_inside,
};

/// Connections of a measurement; each is at least 6 packets.
const COUNT: u64 = 50;

/// How many packets the host's bridge took from jobs.
fn bridged() -> u64 {
    let text = output_of("ip", &["-json", "-s", "link", "show", "flynnbr0"]);
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

/// Whether connections go past the bridge: with all packets, or with none.
fn is_short(from: &Path, to: Ipv4Addr, port: u16) -> bool {
    let before = bridged();
    inside(from, move || {
        for _ in 0..COUNT {
            connect(None, to, port, DEADLINE).expect("a connection");
        }
    });
    let packets = bridged() - before;
    // Some ask for hardware addresses and tell of multicast groups.
    assert!(!(COUNT..=3 * COUNT).contains(&packets), "{packets} packets for {COUNT} connections");
    packets < COUNT
}

/// An open connection, and its other end.
fn connection(from: &Path, to: &Path, addr: Ipv4Addr) -> (TcpStream, TcpStream) {
    let listener = inside(to, move || TcpListener::bind((addr, 9001)).unwrap());
    let near = inside(from, move || TcpStream::connect((addr, 9001)).unwrap());
    let (far, _) = listener.accept().unwrap();
    for end in [&near, &far] {
        end.set_read_timeout(Some(DEADLINE)).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (near, far)
}

/// Much there and something back.
fn talk((near, far): &mut (TcpStream, TcpStream)) {
    let mut sender = near.try_clone().unwrap();
    let sent = std::thread::spawn(move || sender.write_all(&vec![7; 1 << 20]).unwrap());
    far.read_exact(&mut vec![0; 1 << 20]).unwrap();
    sent.join().unwrap();
    far.write_all(b"thanks").unwrap();
    near.read_exact(&mut [0; 6]).unwrap();
}

fn without(world: &World) -> Config {
    Config { fast_path: false, ..world.config() }
}

#[test]
fn jobs_of_one_host_talk_past_the_bridge_where_they_may_talk_both_ways() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let user = attach(&network, "user", Partition::User).await;
        let other = attach(&network, "other", Partition::User).await;
        let system = attach(&network, "system", Partition::System).await;
        let peer = attach(&network, "peer", Partition::System).await;
        for (job, ports) in [(&other, &[8080_u16][..]), (&system, &[5432, 8080])] {
            serve_inside(&job.netns, job.ip, ports);
        }
        for (name, from, to, port, short) in [
            ("user to user", &user, other.ip, 8080, true),
            ("user to database", &user, system.ip, 5432, true),
            ("system to system", &peer, system.ip, 8080, true),
            ("system to user", &peer, other.ip, 8080, false),
        ] {
            assert_eq!(is_short(&from.netns, to, port), short, "{name}");
        }
        network.detach_job(&crate::world::job("other")).await.unwrap();
        let last = attach(&network, "last", Partition::User).await;
        serve_inside(&last.netns, last.ip, &[8080]);
        assert!(is_short(&user.netns, last.ip, 8080), "a job that came later");
    });
}

#[test]
fn jobs_of_two_hosts_talk_past_the_bridges_once_the_device_is_known() {
    in_a_world(|world| async move {
        let (network, first, second, _there) = two_hosts(&world, TUNNEL).await;
        for (job, ports) in [(&second.user, &[8080_u16][..]), (&second.system, &[5432])] {
            serve_inside(&job.netns, job.ip, ports);
        }
        serve_inside(&first.system.netns, first.system.ip, &[5432]);
        assert!(is_short(&first.user.netns, second.user.ip, 8080));
        assert!(is_short(&first.user.netns, second.system.ip, 5432));
        assert!(!is_short(&first.system.netns, second.user.ip, 8080));
        let mut open = connection(&first.user.netns, &second.user.netns, second.user.ip);
        talk(&mut open);
        // The overlay makes its device anew.
        ip("link del flannel.1");
        tunnel(FIRST, FIRST_DEVICE);
        entries(SECOND, SECOND_DEVICE);
        assert!(!is_short(&first.user.netns, second.user.ip, 8080), "a device nobody told of");
        talk(&mut open);
        network.follow_tunnel().await;
        assert!(is_short(&first.user.netns, second.user.ip, 8080));
        talk(&mut open);
        // The kernel refuses to look for a device with so long a name: that says nothing about the way.
        let long_name = Way::Tunnel { vni: u32::MAX, port: 8472 };
        network.set_overlay(overlay(long_name, SECOND)).await.unwrap_err();
        network.follow_tunnel().await;
        assert!(is_short(&first.user.netns, second.user.ip, 8080));
        talk(&mut open);
    });
}

#[test]
fn a_link_that_takes_no_program_goes_the_long_way_both_ways() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let user = attach(&network, "user", Partition::User).await;
        let other = attach(&network, "other", Partition::User).await;
        serve_inside(&other.netns, other.ip, &[8080]);
        assert!(is_short(&user.netns, other.ip, 8080));
        drop(network);
        let tc = |arguments: &str| run_program("tc", arguments);
        let link = &other.veth;
        // It stands where ours would and is of another kind, so that ours is refused.
        tc(&format!("filter del dev {link} parent ffff: prio 1"));
        tc(&format!(
            "filter add dev {link} parent ffff: protocol ip prio 1 u32 match u32 0 0 classid 1:1"
        ));
        let _network = world.network().await;
        let left = output_of("tc", &["filter", "show", "dev", link, "ingress"]);
        assert_eq!(left, "", "nothing of an earlier daemon's decides any more");
        assert!(!is_short(&user.netns, other.ip, 8080));
    });
}

#[test]
fn open_connections_outlive_a_daemon_with_and_without() {
    in_a_world(|world| async move {
        let (network, first, second, _there) = two_hosts(&world, TUNNEL).await;
        let other = attach(&network, "other", Partition::User).await;
        serve_inside(&other.netns, other.ip, &[8080]);
        let mut open = [
            connection(&first.user.netns, &other.netns, other.ip),
            connection(&first.user.netns, &second.user.netns, second.user.ip),
        ];
        drop(network);
        for (config, short) in [
            (world.config(), true),
            (without(&world), false),
            (without(&world), false),
            (world.config(), true),
            (without(&world), false),
        ] {
            open.iter_mut().for_each(talk);
            let _network = Network::open(config).await.unwrap();
            open.iter_mut().for_each(talk);
            assert_eq!(is_short(&first.user.netns, other.ip, 8080), short);
        }
    });
}
