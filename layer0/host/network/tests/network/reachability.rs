//! Who reaches whom, as one table.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use host_network::{Endpoint, JobRequest, Partition};

use crate::world::{
    BRIDGE, DEADLINE, HOST, PEER, STRANGER, World, attach, connect, in_a_world, in_a_world_where,
    inside, job, reaches, serve, serve_inside,
};

/// Who connects: a namespace (none: the host's own) and a source address (none: the usual one).
struct From(Option<PathBuf>, Option<Ipv4Addr>);

fn check(name: &str, from: &From, to: Ipv4Addr, ports: &[u16], expected: bool) -> Vec<String> {
    let (source, list) = (from.1, ports.to_vec());
    let test = move || {
        list.into_iter().filter(|p| reaches(source, to, *p, expected) != expected).collect()
    };
    let wrong: Vec<u16> = match &from.0 {
        Some(namespace) => inside(namespace, test),
        None => test(),
    };
    let verb = if expected { "does not reach" } else { "reaches" };
    wrong.into_iter().map(|port| format!("{name} {verb} {to}:{port}")).collect()
}

#[test]
fn everyone_reaches_what_the_partition_allows_and_nothing_else() {
    in_a_world(everyone_reaches_what_is_allowed);
}

#[test]
fn without_a_fast_path_everyone_reaches_the_same() {
    in_a_world_where([false, false], everyone_reaches_what_is_allowed);
}

async fn everyone_reaches_what_is_allowed(world: World) {
    let network = world.network().await;
    let user = attach(&network, "user", Partition::User).await;
    let other = attach(&network, "other", Partition::User).await;
    let background = attach(&network, "background", Partition::Background).await;
    let system = JobRequest::new(job("system"), Partition::System).serving_builds(8088);
    let system = network.attach_job(system).await.unwrap();
    let build = JobRequest::new(job("build"), Partition::Background)
        .allowing(system.ip, 8080)
        .allowing(BRIDGE, 1111);
    let build = network.attach_job(build).await.unwrap();

    for (net, ports) in [
        (&other, &[8080_u16][..]),
        (&background, &[8080]),
        (&system, &[5432, 8080, 8088]),
        (&user, &[8080]),
    ] {
        serve_inside(&net.netns, net.ip, ports);
    }
    for port in [80, 443, 3100, 1111, 1113, 5002, 9000] {
        serve(HOST, port);
    }
    [53, 1111, 1113, 9000].into_iter().for_each(|port| serve(BRIDGE, port));
    serve_inside(&world.outside(), STRANGER, &[8080, 1113]);
    serve_inside(&world.outside(), PEER, &[80, 1113, 9000]);

    let job_at = |net: &host_network::JobNetwork| From(Some(net.netns.clone()), None);
    let outside = |ip| From(Some(world.outside()), Some(ip));
    let daemons: &[u16] = &[1111, 1113, 5002, 9000];
    let mut wrong = Vec::new();
    for (name, from) in [("user", job_at(&user)), ("background", job_at(&background))] {
        for (to, ports, expected) in [
            (other.ip, &[8080_u16][..], true),
            (system.ip, &[5432], true),
            (system.ip, &[8080], false),
            (HOST, &[80, 443, 3100], true),
            (HOST, daemons, false),
            (BRIDGE, &[53], true),
            (BRIDGE, &[1111, 1113, 9000], false),
            (STRANGER, &[8080], true),
            (PEER, &[80], true),
            (PEER, &[1113, 9000], false),
        ] {
            wrong.extend(check(name, &from, to, ports, expected));
        }
    }
    for (name, from, to, ports, expected) in [
        ("user", job_at(&user), background.ip, &[8080_u16][..], false),
        ("user", job_at(&user), system.ip, &[8088], false),
        ("background", job_at(&background), system.ip, &[8088], true),
        ("build", job_at(&build), system.ip, &[8080, 5432], true),
        ("build", job_at(&build), BRIDGE, &[1111], true),
        ("build", job_at(&build), HOST, daemons, false),
        ("system", job_at(&system), user.ip, &[8080], true),
        ("system", job_at(&system), background.ip, &[8080], true),
        ("system", job_at(&system), HOST, daemons, true),
        ("system", job_at(&system), PEER, &[1113], true),
        ("host", From(None, None), user.ip, &[8080], true),
        ("host", From(None, None), HOST, daemons, true),
        ("stranger", outside(STRANGER), HOST, &[80, 9000], true),
        ("stranger", outside(STRANGER), HOST, &[1111, 1113, 5002], false),
        ("stranger", outside(STRANGER), BRIDGE, &[53], false),
        ("stranger", outside(STRANGER), user.ip, &[8080], false),
        ("peer", outside(PEER), HOST, &[1111, 1113, 5002], true),
        ("peer", outside(PEER), user.ip, &[8080], true),
    ] {
        wrong.extend(check(name, &from, to, ports, expected));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let seen = inside(&user.netns, || connect(None, STRANGER, 8080, DEADLINE));
    assert_eq!(seen, Some(HOST.to_string()), "a job goes out under the host's address");
}

#[test]
fn guarded_ports_are_guarded_before_there_is_a_subnet() {
    in_a_world(|world| async move {
        let _network = host_network::Network::open(world.config()).await.unwrap();
        [1113, 9000].into_iter().for_each(|port| serve(HOST, port));
        let stranger = From(Some(world.outside()), Some(STRANGER));
        let mut wrong = check("stranger", &stranger, HOST, &[1113], false);
        wrong.extend(check("stranger", &stranger, HOST, &[9000], true));
        wrong.extend(check("host", &From(None, None), HOST, &[1113], true));
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn a_known_host_that_left_is_a_stranger_again() {
    in_a_world(|world| async move {
        let network = world.network().await;
        serve(HOST, 1113);
        let peer = From(Some(world.outside()), Some(PEER));
        assert_eq!(check("peer", &peer, HOST, &[1113], true), Vec::<String>::new());
        network.set_known_hosts([]).await.unwrap();
        assert_eq!(check("former peer", &peer, HOST, &[1113], false), Vec::<String>::new());
    });
}

#[test]
fn a_change_that_nobody_waited_for_is_made_when_it_is_told_again() {
    in_a_world(|world| async move {
        let network = world.network().await;
        serve(HOST, 1113);
        let peer = From(Some(world.outside()), Some(PEER));
        // The caller goes at its first wait, when the new state is noted and the kernel has the old one.
        let left = tokio::time::timeout(Duration::ZERO, network.set_known_hosts([]));
        assert!(left.await.is_err(), "it is not done at once");
        network.set_known_hosts([]).await.unwrap();
        assert_eq!(check("former peer", &peer, HOST, &[1113], false), Vec::<String>::new());
    });
}

#[test]
fn what_a_build_may_reach_can_move() {
    in_a_world(|world| async move {
        let network = world.network().await;
        let store = attach(&network, "store", Partition::System).await;
        let build = JobRequest::new(job("build"), Partition::Background).allowing(store.ip, 8080);
        let build = network.attach_job(build).await.unwrap();
        serve_inside(&store.netns, store.ip, &[8080, 8081]);
        let from = From(Some(build.netns), None);
        let mut wrong = check("build", &from, store.ip, &[8080], true);
        wrong.extend(check("build", &from, store.ip, &[8081], false));
        let moved = [Endpoint { ip: store.ip, port: 8081 }].into();
        network.set_allowed(&job("build"), moved).await.unwrap();
        wrong.extend(check("build", &from, store.ip, &[8081], true));
        wrong.extend(check("build", &from, store.ip, &[8080], false));
        assert!(wrong.is_empty(), "{wrong:#?}");
        network.detach_job(&job("build")).await.unwrap();
        network.set_allowed(&job("build"), Default::default()).await.unwrap();
    });
}
