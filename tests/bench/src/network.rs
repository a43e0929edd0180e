//! Job to job, on one host and across two, beside bare links of the same machine: a pair of virtual Ethernet
//! links, and the same with a VXLAN tunnel between two hosts. One TCP connection each, in turn.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cluster_tests::several::{Several, in_namespace, job_network, on, on_hosts, start_app};

use crate::figures::Series;

/// Sent in one call.
const PIECE: usize = 128 << 10;

/// Two ends of a way.
struct Way {
    name: &'static str,
    from: File,
    to: File,
    ip: Ipv4Addr,
    throughput: Series,
    round_trip: Series,
}

pub(crate) fn measure(rounds: usize, seconds: u64) {
    on_hosts(&["neta", "netb"], "vxlan", |mut several| {
        let mut ways = ways(&mut several)?;
        for _ in 0..rounds {
            for way in &mut ways {
                way.round(Duration::from_secs(seconds))?;
            }
        }
        for way in &ways {
            println!("{}: {}", way.name, way.throughput.tell("Gbit/s"));
            println!("{}: round trip {}", way.name, way.round_trip.tell("µs"));
        }
        for (ours, peer) in [(1, 0), (3, 2)] {
            let (ours, peer) = (&ways[ours], &ways[peer]);
            println!(
                "{} beside {}: throughput {:.2}, round trip {:.2}",
                ours.name,
                peer.name,
                ours.throughput.median() / peer.throughput.median(),
                ours.round_trip.median() / peer.round_trip.median()
            );
        }
        Ok(())
    });
}

fn ways(several: &mut Several) -> anyhow::Result<Vec<Way>> {
    let mut jobs = Vec::new();
    for (host, program) in [(0, "echoer"), (0, "ping"), (1, "ping")] {
        let node = &mut several.nodes[host];
        let addr = on(node, async |node| start_app(node, program, "user").await)?;
        let ip: Ipv4Addr = addr.split(':').next().unwrap_or_default().parse()?;
        jobs.push((job_network(node, program)?, ip));
    }
    let (bare, bare_ip) = bare_pair()?;
    let (tunnel, tunnel_ip) = bare_tunnel(several)?;
    let way = |name, (from, to): (&File, &File), ip| {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (throughput, round_trip) = (Series::default(), Series::default());
        anyhow::Ok(Way { name, from, to, ip, throughput, round_trip })
    };
    Ok(vec![
        way("bare pair of links", (&bare[0], &bare[1]), bare_ip)?,
        way("jobs of one host", (&jobs[0].0, &jobs[1].0), jobs[1].1)?,
        way("bare tunnel between hosts", (&tunnel[0], &tunnel[1]), tunnel_ip)?,
        way("jobs of two hosts", (&jobs[0].0, &jobs[2].0), jobs[2].1)?,
    ])
}

impl Way {
    fn round(&mut self, length: Duration) -> anyhow::Result<()> {
        let (bytes, time) = self.connected(sink, move |stream| pour(stream, length))?;
        self.throughput.add(bytes as f64 * 8.0 / time.as_secs_f64() / 1e9);
        let ((), median) = self.connected(echo, move |stream| ask(stream, length))?;
        self.round_trip.add(median.as_secs_f64() * 1e6);
        Ok(())
    }

    /// One connection with these two at its ends.
    fn connected<A: Send + 'static, B: Send + 'static>(
        &self,
        there: impl FnOnce(TcpStream) -> std::io::Result<A> + Send + 'static,
        here: impl FnOnce(TcpStream) -> std::io::Result<B> + Send + 'static,
    ) -> anyhow::Result<(A, B)> {
        let ip = self.ip;
        let (send, bound) = std::sync::mpsc::sync_channel(1);
        let there = in_namespace(self.to.try_clone()?, move || {
            let listener = TcpListener::bind((ip, 0))?;
            let _ = send.send(listener.local_addr()?);
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            there(stream)
        })?;
        let addr = bound.recv().context("the listener ended")?;
        let here = in_namespace(self.from.try_clone()?, move || {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            here(stream)
        })?;
        let panicked = |_| anyhow::anyhow!("an end panicked");
        let (here, there) = (here.join().map_err(panicked)?, there.join().map_err(panicked)?);
        Ok((there?, here?))
    }
}

fn pour(mut stream: TcpStream, length: Duration) -> std::io::Result<Duration> {
    let (piece, began) = (vec![7_u8; PIECE], Instant::now());
    while began.elapsed() < length {
        stream.write_all(&piece)?;
    }
    Ok(began.elapsed())
}

/// How many bytes came.
fn sink(mut stream: TcpStream) -> std::io::Result<u64> {
    let (mut piece, mut count) = (vec![0_u8; PIECE], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(count),
            size => count += size as u64,
        }
    }
}

/// The median of the times from one byte to its echo.
fn ask(mut stream: TcpStream, length: Duration) -> std::io::Result<Duration> {
    let (mut times, began, mut byte) = (Vec::new(), Instant::now(), [7_u8]);
    while began.elapsed() < length {
        let asked = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0_u8];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Two networks with nothing but a pair of links between them.
fn bare_pair() -> anyhow::Result<([File; 2], Ipv4Addr)> {
    let ends = [new_network()?, new_network()?];
    let pair = "link add bare0 type veth peer name bare1";
    ip(&format!("{pair} netns {}", path(&ends[1])))?;
    ip(&format!("link set bare0 netns {}", path(&ends[0])))?;
    for (end, number) in ends.iter().zip([0_u8, 1]) {
        let commands = move || {
            ip(&format!("addr add 198.18.0.{}/24 dev bare{number}", number + 1))?;
            ip(&format!("link set bare{number} up"))
        };
        in_namespace(end.try_clone()?, commands)?.join().unwrap_or_else(|_| Ok(()))?;
    }
    Ok((ends, Ipv4Addr::new(198, 18, 0, 2)))
}

/// A tunnel between the two hosts with nothing behind it; the ends are the hosts' own networks.
fn bare_tunnel(several: &Several) -> anyhow::Result<([File; 2], Ipv4Addr)> {
    let open = |node: &cluster_tests::Node| File::open(format!("/run/netns/{}", node.host.id));
    let ends = [open(&several.nodes[0])?, open(&several.nodes[1])?];
    for (at, end) in ends.iter().enumerate() {
        let (own, other) = (several.nodes[at].host.ip, several.nodes[1 - at].host.ip);
        let commands = move || {
            let device = format!("link add bare99 type vxlan id 99 dstport 4799 local {own}");
            ip(&format!("{device} remote {other}"))?;
            ip(&format!("addr add 198.18.1.{}/24 dev bare99", at + 1))?;
            ip("link set bare99 mtu 1450 up")
        };
        in_namespace(end.try_clone()?, commands)?.join().unwrap_or_else(|_| Ok(()))?;
    }
    Ok((ends, Ipv4Addr::new(198, 18, 1, 2)))
}

fn new_network() -> anyhow::Result<File> {
    let make = || {
        // SAFETY: the thread ends here; the network lives on in the descriptor.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
        File::open("/proc/thread-self/ns/net")
    };
    Ok(std::thread::spawn(make).join().map_err(|_| anyhow::anyhow!("a panic"))??)
}

/// A path by which another program finds the network.
fn path(network: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd())
}

/// iproute2 in the thread's network.
fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
