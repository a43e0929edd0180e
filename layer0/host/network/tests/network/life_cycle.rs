//! What is made, kept, found again and removed.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use host_network::{JobRequest, Network, NetworkError, Partition};

use crate::world::{
    DEADLINE, attach, connect, datagrams, in_a_world, inside, job, output_of, receive, serve_inside,
};

/// All that can be seen of a host's network: links, rules, pins.
fn footprint() -> (usize, String, usize) {
    let links = output_of("ip", &["-o", "link", "show"]).lines().count();
    let rules = output_of("nft", &["list", "ruleset"]);
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    (links, rules, mounts.lines().filter(|line| line.contains(" nsfs ")).count())
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

fn forwarding() -> String {
    std::fs::read_to_string(FORWARDING).unwrap().trim().to_owned()
}

#[test]
fn a_hundred_jobs_come_and_go_and_leave_nothing() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let before = footprint();
        for number in 0..100 {
            let name = format!("job{number}");
            let net = attach(&network, &name, Partition::User).await;
            assert_eq!(u32::from(net.ip) - u32::from(net.gateway), number + 1, "round-robin");
            network.detach_job(&job(&name)).await.unwrap();
            network.detach_job(&job(&name)).await.unwrap();
        }
        assert_eq!(footprint(), before);
    });
}

#[test]
fn teardown_leaves_the_machine_as_it_was() {
    in_a_world(|world| async move {
        // A new namespace begins with what the machine has: 1 beside a running platform.
        std::fs::write(FORWARDING, "0").unwrap();
        let (before, forwarded) = (footprint(), forwarding());
        let network = world.network().await;
        assert_eq!(forwarding(), "1");
        attach(&network, "left", Partition::User).await;
        network.teardown().await.unwrap();
        assert_eq!((footprint(), forwarding()), (before, forwarded));
        assert!(!world.config().data_dir.join("network.json").exists());
    });
}

#[test]
fn configuring_again_disturbs_nobody() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let (one, two) = (
            attach(&network, "one", Partition::User).await,
            attach(&network, "two", Partition::User).await,
        );
        let ip = two.ip;
        let listener = inside(&two.netns, move || TcpListener::bind((ip, 8080)).unwrap());
        let mut caller = inside(&one.netns, move || TcpStream::connect((ip, 8080)).unwrap());
        let (mut callee, _) = listener.accept().unwrap();
        let before = footprint();
        network.configure("10.77.0.1/24".parse().unwrap(), 1450).await.unwrap();
        assert_eq!(footprint(), before);
        caller.write_all(b"still here").unwrap();
        let mut text = [0_u8; 10];
        callee.set_read_timeout(Some(DEADLINE)).unwrap();
        callee.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here");
        let other = network.configure("10.77.5.1/24".parse().unwrap(), 1450).await.unwrap_err();
        assert!(matches!(other, NetworkError::SubnetInUse { jobs: 2, .. }), "{other}");
    });
}

#[test]
fn a_restarted_daemon_finds_its_jobs_and_removes_the_others() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let stays = attach(&network, "stays", Partition::User).await;
        let ended = attach(&network, "ended", Partition::User).await;
        drop(network);
        // What a daemon leaves that was killed between two steps.
        crate::world::ip("link add flv0a4d00fe type veth peer name half");
        std::fs::write(world.config().data_dir.join("netns/host1-half"), "").unwrap();

        let network = Network::open(world.config()).await.unwrap();
        let running = BTreeSet::from([job("stays"), job("unknown")]);
        let restored = network.restore(&running).await.unwrap();
        assert_eq!(restored.kept.get(&job("stays")), Some(&stays));
        assert_eq!(restored.lost, [job("unknown")]);
        assert_eq!(restored.removed, 3);
        assert!(!ended.netns.exists());

        serve_inside(&stays.netns, stays.ip, &[8080]);
        assert!(connect(None, stays.ip, 8080, DEADLINE).is_some(), "it is still reached");
        let next = attach(&network, "next", Partition::User).await;
        assert!(next.ip > ended.ip, "a resting address is not given away after a restart either");
        let again = network.attach_job(JobRequest::new(job("stays"), Partition::User)).await;
        assert_eq!(again.unwrap(), stays);
    });
}

#[test]
fn a_machine_that_lost_its_links_starts_over_but_lets_addresses_rest() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let gone = attach(&network, "gone", Partition::User).await;
        drop(network);
        crate::world::ip("link del flynnbr0");
        crate::world::ip(&format!("link del {}", gone.veth));
        let network = Network::open(world.config()).await.unwrap();
        assert_eq!(network.subnet().await, None);
        let early = network.attach_job(JobRequest::new(job("early"), Partition::User)).await;
        assert!(matches!(early, Err(NetworkError::NotConfigured)));
        network.configure("10.77.0.1/24".parse().unwrap(), 1450).await.unwrap();
        let restored = network.restore(&BTreeSet::from([job("gone")])).await.unwrap();
        assert_eq!(restored.lost, [job("gone")]);
        let next = attach(&network, "next", Partition::User).await;
        assert_ne!(next.ip, gone.ip);
    });
}

#[test]
fn a_supervisors_copy_of_the_mounts_does_not_keep_a_namespace() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let net = attach(&network, "short", Partition::User).await;
        let mut supervisor = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0_u8; 6];
        supervisor.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let mounts = format!("/proc/{}/mountinfo", supervisor.id());
        let pins = |text: String| text.lines().filter(|l| l.contains("host1-short")).count();
        assert_eq!(pins(std::fs::read_to_string(&mounts).unwrap()), 1, "the copy is there");
        network.detach_job(&job("short")).await.unwrap();
        let left = pins(std::fs::read_to_string(&mounts).unwrap());
        drop(supervisor.stdin.take());
        supervisor.wait().unwrap();
        assert_eq!((left, net.netns.exists()), (0, false));
    });
}

#[test]
fn a_job_without_capabilities_may_bind_low_ports_and_has_loopback() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let net = attach(&network, "low", Partition::User).await;
        let settings = inside(&net.netns, || {
            let read =
                |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
            (read("ip_unprivileged_port_start"), read("ping_group_range"))
        });
        assert_eq!(settings, ("0\n".to_owned(), "0\t2147483647\n".to_owned()));
        let socket = datagrams(&net.netns, std::net::Ipv4Addr::LOCALHOST, 0);
        socket.send_to(b"echo", socket.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&socket), "echo");
    });
}

#[test]
fn its_futures_can_be_awaited_in_any_task() {
    fn check<T: Send>(_: &T) {}
    in_a_world(|world| async move {
        let network = world.network().await;
        let attach = network.attach_job(JobRequest::new(job("sent"), Partition::User));
        check(&attach);
        attach.await.unwrap();
        check(&network.restore(&BTreeSet::new()));
        check(&network.configure("10.77.0.1/24".parse().unwrap(), 1450));
    });
}
