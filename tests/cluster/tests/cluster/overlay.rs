//! Jobs on different hosts: they reach each other by their addresses, with full packets, by the rules of
//! partitions; and nothing that ends or starts again on the way stops an open connection.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cluster_tests::several::{Several, in_job, knows, on, on_hosts, start_app};
use cluster_tests::{Node, PATIENCE, until};

#[test]
fn jobs_of_different_hosts_talk() {
    on_hosts(&["ovla", "ovlb", "ovlc"], "", |mut several| {
        let subnets = subnets(&mut several)?;
        let talk = Talk::start(&mut several)?;
        the_rules_hold(&mut several)?;
        for number in [0, 1] {
            restarts_change_nothing(&mut several.nodes[number], &talk)?;
        }
        ensure!(self::subnets(&mut several)? == subnets);
        talk.end()?;
        a_host_comes_back_without_quorum(&mut several, &subnets)
    });
}

fn subnets(several: &mut Several) -> anyhow::Result<Vec<String>> {
    let network = async |node: &mut Node| {
        let network = node.client.status().await?.network.context("a network")?;
        let overlay = network.overlay.as_ref().context("an overlay")?;
        ensure!((overlay.backend.as_str(), network.mtu) == ("vxlan", 1450), "{network:?}");
        Ok(network.subnet)
    };
    several.nodes.iter_mut().map(|node| on(node, network)).collect()
}

/// One connection between jobs of two hosts on which something is said all the time.
struct Talk {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Talk {
    fn start(several: &mut Several) -> anyhow::Result<Self> {
        let to = on(&mut several.nodes[1], async |node| start_app(node, "echoer", "user").await)?;
        on(&mut several.nodes[0], async |node| start_app(node, "echoer", "user").await)?;
        let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), said.clone());
        let talk = move || {
            let mut stream = TcpStream::connect(&to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // Many full packets a time.
            let (text, mut back) = (vec![7_u8; 64 << 10], vec![0_u8; 64 << 10]);
            while !stopped.load(Ordering::SeqCst) {
                stream.write_all(&text)?;
                stream.read_exact(&mut back)?;
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        let thread = in_job(&several.nodes[0], "echoer", talk)?;
        let talk = Self { stop, said, thread };
        talk.goes_on()?;
        Ok(talk)
    }

    /// Waits until more was said and answered.
    fn goes_on(&self) -> anyhow::Result<()> {
        let (before, began) = (self.said.load(Ordering::SeqCst), std::time::Instant::now());
        while self.said.load(Ordering::SeqCst) < before + 10 {
            ensure!(!self.thread.is_finished(), "the connection ended");
            ensure!(began.elapsed() < PATIENCE, "nothing is answered any more");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        self.goes_on()?;
        self.stop.store(true, Ordering::SeqCst);
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("the talk panicked"))??)
    }
}

/// A user job of the first host dials what there is on the third, and a system job after it.
fn the_rules_hold(several: &mut Several) -> anyhow::Result<()> {
    let there = &mut several.nodes[2];
    let user = on(there, async |node| start_app(node, "ping", "user").await)?;
    let system = on(there, async |node| start_app(node, "ping", "system").await)?;
    let bridge = on(there, async |node| {
        let network = node.client.status().await?.network.context("a network")?;
        Ok(network.subnet.split('/').next().unwrap_or_default().to_owned())
    })?;
    let (host, bridge) = (there.host.ip, bridge.parse::<std::net::Ipv4Addr>()?);
    let device = std::net::Ipv4Addr::from(u32::from(bridge) - 1);
    for (partition, expected) in [
        ("user", [(user.clone(), true), (system.clone(), false)]),
        ("background", [(user.clone(), true), (system.clone(), false)]),
        ("system", [(user.clone(), true), (system.clone(), true)]),
    ] {
        let mut expected = BTreeMap::from(expected);
        for closed in [format!("{host}:1113"), format!("{device}:5002")] {
            expected.insert(closed, partition == "system");
        }
        let words: Vec<_> =
            ["dial".to_owned()].into_iter().chain(expected.keys().cloned()).collect();
        let text = on(&mut several.nodes[0], async |node| {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let mut run = node.job(&words).await?;
            run.job.partition = partition.to_owned();
            Ok(node.run(&run).await?.text())
        })?;
        let found: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(address, word)| (address.to_owned(), word == "open"))
            .collect();
        ensure!(found == expected, "{partition}: expected {expected:#?}\nfound {found:#?}");
    }
    Ok(())
}

/// Overlay and daemon of a host end at once and come back, while its jobs talk.
fn restarts_change_nothing(node: &mut Node, talk: &Talk) -> anyhow::Result<()> {
    let before = entries(node)?;
    ensure!(before.contains("dev flannel.1"), "{before}");
    ensure!(node.host.kill_in_jobs("flynn-core", "overlay") > 0, "no overlay to kill");
    talk.goes_on()?;
    on(node, async |node| {
        until("the overlay is back", async || {
            !node.host.pids_in_jobs("flynn-core", "overlay").is_empty()
        })
        .await?;
        node.kill_daemon()?;
        talk.goes_on()?;
        node.start_daemon().await?;
        knows(node, 3).await
    })?;
    talk.goes_on()?;
    let after = entries(node)?;
    ensure!(before == after, "before {before}\nafter {after}");
    Ok(())
}

/// The device with its number and the routes to other hosts.
fn entries(node: &Node) -> anyhow::Result<String> {
    let mut text = String::new();
    for words in
        [&["-o", "link", "show", "dev", "flannel.1"][..], &["route", "show", "proto", "241"]]
    {
        let shown = node.host.command("ip").args(words).output()?;
        ensure!(shown.status.success(), "{shown:?}");
        text += &String::from_utf8_lossy(&shown.stdout);
    }
    Ok(text)
}

/// The only voter is gone, and a host loses power and with it all that its kernel knew.
fn a_host_comes_back_without_quorum(
    several: &mut Several,
    subnets: &[String],
) -> anyhow::Result<()> {
    several.nodes[0].kill_daemon()?;
    ensure!(several.nodes[0].host.kill_supervisor_of("flynn-core", "discoverd"));
    let cut = &mut several.nodes[1];
    cut.host.power_cut()?;
    for device in ["flannel.1", "flynnbr0"] {
        ensure!(cut.host.command("ip").args(["link", "del", device]).status()?.success());
    }
    let to = on(cut, async |node| {
        node.power_cut().await?;
        knows(node, 3).await?;
        start_app(node, "ping", "user").await
    })?;
    let subnet = subnets[1].trim_end_matches(".1/24");
    ensure!(to.starts_with(subnet), "{to} is not in {subnet}");
    let reached = in_job(&several.nodes[2], "ping", move || {
        let began = std::time::Instant::now();
        while TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(1)).is_err() {
            if began.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    })?;
    ensure!(reached.join().unwrap_or_default(), "the host's jobs are not reached any more");
    Ok(())
}
