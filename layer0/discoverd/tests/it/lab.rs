//! Several servers in one process, each on a runtime of its own so that it can be killed or made to stand
//! still at any moment, on addresses of their own, and with links between them that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use discoverd::{Config, Deps, Dial, Disk, RaftTiming};
use discoverd_api::{Client, RaftLeader, Servers};
use futures_util::future::BoxFuture;
use kit_clock::{Clock, SystemClock};
use kit_tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::support::{Answer, ask, config, until};

/// A number of server: the last part of its address.
pub(crate) type N = u8;

/// The servers.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    /// `127.a.b`, drawn for each lab so that labs do not meet.
    net: [u8; 2],
    port: u16,
    voters: N,
    pub(crate) timing: RaftTiming,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where servers that are started from now on tell of themselves.
    pub(crate) notify: Option<String>,
    links: Links,
    members: BTreeMap<N, Member>,
}

struct Member {
    runtime: Runtime,
    client: Client,
    /// Lets it go on when dropped.
    standing: Option<mpsc::SyncSender<()>>,
}

impl Lab {
    /// A lab whose first voters are 1 to `voters`. None is started.
    pub(crate) fn of(voters: N) -> Self {
        let (net, port) = free_net();
        Self {
            dir: tempfile::tempdir().unwrap(),
            net,
            port,
            voters,
            timing: RaftTiming { write: Duration::from_secs(10), ..RaftTiming::default() },
            clock: Arc::new(SystemClock::start()),
            notify: None,
            links: Links::new(),
            members: BTreeMap::new(),
        }
    }

    /// A lab whose voters all run and agree on a leader.
    pub(crate) async fn running(voters: N) -> Self {
        let mut lab = Self::of(voters);
        for n in 1..=voters {
            lab.start(n).await;
        }
        lab.leader().await;
        lab
    }

    /// Starts a server on what its disk holds.
    pub(crate) async fn start(&mut self, n: N) {
        assert!(!self.members.contains_key(&n), "{n} runs already");
        let peers = (1..=self.voters).map(|n| self.addr(n).to_string()).collect();
        let config = Config {
            listen: vec![self.addr(n)],
            host: self.addr(n).ip().to_string(),
            peers,
            raft: self.timing,
            notify: self.notify.clone(),
            ..config(&self.disk(n))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("server-{n}"))
            .enable_all()
            .build()
            .unwrap();
        let started = std::sync::atomic::AtomicBool::new(false);
        // The disk of one that was killed is let go of when its last write ended.
        until("a start", async || {
            let (config, clock) = (config.clone(), Arc::clone(&self.clock));
            let tasks = Tasks::root("links");
            let dialer = Arc::new(Way { from: n, links: self.links.clone(), tasks });
            let running = runtime.spawn(async move {
                let deps = Deps { clock, disk: Disk::Directory, dialer };
                discoverd::start_with(config, deps, &Tasks::root("member")).await
            });
            started.store(running.await.unwrap().is_ok(), std::sync::atomic::Ordering::SeqCst);
            started.load(std::sync::atomic::Ordering::SeqCst)
        })
        .await;
        let client = Client::new(&Servers::parse(&self.addr(n).to_string())).unwrap();
        self.members.insert(n, Member { runtime, client, standing: None });
    }

    /// Ends a server as SIGKILL would.
    pub(crate) fn kill(&mut self, n: N) {
        let member = self.members.remove(&n).unwrap();
        drop(member.standing);
        member.runtime.shutdown_background();
    }

    /// A server that does not run gets a new, empty disk.
    pub(crate) async fn lose_disk(&self, n: N) {
        assert!(!self.members.contains_key(&n));
        let disk = self.disk(n);
        // Writes of the killed one may still be under way.
        until("an empty disk", async || std::fs::remove_dir_all(&disk).is_ok()).await;
    }

    /// Makes a server stand still, as SIGSTOP would.
    pub(crate) fn pause(&mut self, n: N) {
        let (sender, stand) = mpsc::sync_channel(1);
        let member = self.members.get_mut(&n).unwrap();
        member.standing = Some(sender);
        member.runtime.spawn(async move { stand.recv().ok() });
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self, n: N) {
        self.members.get_mut(&n).unwrap().standing = None;
    }

    /// Cuts all links of a server to other servers. What is under way arrives when they are mended.
    pub(crate) fn isolate(&self, n: N) {
        self.links.cut.send_modify(|cut| {
            cut.insert(n);
        });
    }

    /// From now on nothing that others answer reaches this server; what it says reaches them.
    pub(crate) fn deafen(&self, n: N) {
        self.links.deaf.send_modify(|deaf| {
            deaf.insert(n);
        });
    }

    /// Mends all links.
    pub(crate) fn heal(&self) {
        self.links.cut.send_modify(BTreeSet::clear);
        self.links.deaf.send_modify(BTreeSet::clear);
    }

    /// The servers that run.
    pub(crate) fn alive(&self) -> Vec<N> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn addr(&self, n: N) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, self.net[0], self.net[1], n), self.port))
    }

    pub(crate) fn addrs(&self, servers: &[N]) -> Vec<String> {
        servers.iter().map(|n| self.addr(*n).to_string()).collect()
    }

    pub(crate) fn client(&self, n: N) -> &Client {
        &self.members[&n].client
    }

    /// Sends a request with a JSON body and gives the whole answer.
    pub(crate) async fn ask(&self, n: N, method: &str, path: &str, body: &str) -> Answer {
        ask(self.addr(n), method, path, "Content-Type: application/json\r\n", body).await
    }

    /// The leader all servers that run agree on.
    pub(crate) async fn leader(&self) -> N {
        self.leader_of(&self.alive()).await
    }

    /// The leader these servers agree on, itself one of them.
    pub(crate) async fn leader_of(&self, servers: &[N]) -> N {
        let found = Mutex::new(0);
        until("an agreed leader", async || {
            let mut named = BTreeSet::new();
            for n in servers {
                named.insert(self.leader_seen_by(*n).await);
            }
            let leader = named.pop_first().flatten().filter(|_| named.is_empty());
            *found.lock().unwrap() = leader.unwrap_or_default();
            leader.is_some_and(|leader| servers.contains(&leader))
        })
        .await;
        found.into_inner().unwrap()
    }

    /// Which server one says leads.
    pub(crate) async fn leader_seen_by(&self, n: N) -> Option<N> {
        let answer = self.ask(n, "GET", "/raft/leader", "").await;
        let leader: RaftLeader = serde_json::from_str(&answer.body).ok()?;
        let addr: SocketAddr = leader.host.parse().unwrap();
        number(addr.ip())
    }

    /// Waits until these servers' voters are `voters`, as all of them see it.
    pub(crate) async fn voters_are(&self, servers: &[N], voters: &[N]) {
        let want: BTreeSet<_> = self.addrs(voters).into_iter().collect();
        until(&format!("the voters {voters:?}"), async || {
            for n in servers {
                let seen = self.ask(*n, "GET", "/raft/peers", "").await.body;
                let seen: Vec<String> = serde_json::from_str(&seen).unwrap();
                if seen.len() != want.len() || seen.into_iter().collect::<BTreeSet<_>>() != want {
                    return false;
                }
            }
            true
        })
        .await;
    }

    fn disk(&self, n: N) -> PathBuf {
        self.dir.path().join(n.to_string())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for n in self.alive() {
            self.kill(n);
        }
    }
}

/// A net of loopback addresses and a port nobody listens on, below those the kernel gives away.
fn free_net() -> ([u8; 2], u16) {
    loop {
        let net = [rand::random_range(1..255), rand::random_range(0..255)];
        let port = rand::random_range(10_000..30_000);
        let free = |n| TcpListener::bind((Ipv4Addr::new(127, net[0], net[1], n), port)).is_ok();
        if (1..8).all(free) {
            return (net, port);
        }
    }
}

fn number(ip: IpAddr) -> Option<N> {
    match ip {
        IpAddr::V4(ip) => Some(ip.octets()[3]),
        IpAddr::V6(_) => None,
    }
}

/// The links between all servers.
#[derive(Clone, Debug)]
struct Links {
    /// Servers that reach nobody and that nobody reaches.
    cut: watch::Sender<BTreeSet<N>>,
    /// Servers that no answer reaches.
    deaf: watch::Sender<BTreeSet<N>>,
}

impl Links {
    fn new() -> Self {
        Self { cut: watch::Sender::default(), deaf: watch::Sender::default() }
    }

    /// Waits until two servers reach each other.
    async fn open(&self, a: N, b: N) {
        let mut cut = self.cut.subscribe();
        // The sender lives in `self`.
        drop(cut.wait_for(|cut| !cut.contains(&a) && !cut.contains(&b)).await);
    }

    /// Waits until answers reach this server.
    async fn hears(&self, n: N) {
        let mut deaf = self.deaf.subscribe();
        drop(deaf.wait_for(|deaf| !deaf.contains(&n)).await);
    }
}

/// How one server reaches others: through a relay that passes bytes on while the link is open.
#[derive(Debug)]
struct Way {
    from: N,
    links: Links,
    tasks: Tasks,
}

impl Dial for Way {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<TcpStream>> {
        let (from, links, tasks) = (self.from, self.links.clone(), self.tasks.clone());
        let target: SocketAddr = addr.parse().unwrap();
        Box::pin(async move {
            let to = number(target.ip()).unwrap();
            links.open(from, to).await;
            let far = TcpStream::connect(target).await?;
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let near = TcpStream::connect(listener.local_addr()?).await?;
            let (relayed, _) = listener.accept().await?;
            far.set_nodelay(true)?;
            relayed.set_nodelay(true)?;
            let ((near_in, near_out), (far_in, far_out)) = (relayed.into_split(), far.into_split());
            let there = links.clone();
            let to_open = move || {
                let links = there.clone();
                async move { links.open(from, to).await }
            };
            let back_open = move || {
                let links = links.clone();
                async move {
                    links.open(from, to).await;
                    links.hears(from).await;
                }
            };
            tasks.spawn("to", relay(near_in, far_out, to_open));
            tasks.spawn("from", relay(far_in, near_out, back_open));
            Ok(near)
        })
    }
}

/// Passes bytes on, each time once it is let.
async fn relay<F: Future<Output = ()>>(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    let_on: impl Fn() -> F,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let_on().await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
