//! A small world to test in: a host's namespaces, and another machine outside at the end of a cable.

use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use host_network::{Config, JobNetwork, JobRequest, Network, Partition};
use kit_ids::JobId;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Generous: only a test that fails waits so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How long a packet that was let pass could take at most on an idle kernel; waiting longer would
/// only make a wrongly passing test less likely, never a wrongly failing one.
const SURELY_DROPPED: Duration = Duration::from_millis(300);

/// The host's address on the cable.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The other machine, under the address of a stranger and under that of a known host.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);
/// The bridge.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Runs a test as the only thing on its machine.
pub(crate) fn in_a_world<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    in_a_world_where([true, true], test);
}

/// The same where this host and the other one, if there is one, have a fast path or none.
pub(crate) fn in_a_world_where<F: Future<Output = ()>>(
    fast_path: [bool; 2],
    test: impl FnOnce(World) -> F + Send + 'static,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let machine = move || {
        // SAFETY: the thread is made for this and ends with it; it shares no namespace or file
        // system state that another thread relies on.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }
            .unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World::new(path, fast_path);
        runtime.block_on(test(world));
    };
    let ended = std::thread::Builder::new().name("machine".into()).spawn(machine).unwrap().join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// The host the test's thread is on, and the machine outside.
pub(crate) struct World {
    dir: PathBuf,
    /// Whether this host has a fast path, and another one.
    pub(crate) fast_path: [bool; 2],
}

impl World {
    fn new(dir: PathBuf, fast_path: [bool; 2]) -> Self {
        let world = Self { dir, fast_path };
        ip("link set lo up");
        let outside = world.namespace("outside");
        ip("link add ext0 type veth peer name out0");
        ip(&format!("link set out0 netns {}", outside.display()));
        ip(&format!("addr add {HOST}/24 dev ext0"));
        ip("link set ext0 up");
        inside(&outside, || {
            ip("link set lo up");
            ip(&format!("addr add {STRANGER}/24 dev out0"));
            ip(&format!("addr add {PEER}/24 dev out0"));
            ip("link set out0 up");
            ip(&format!("route add 10.77.0.0/24 via {HOST}"));
        });
        world
    }

    /// The host's disk.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new namespace, pinned under a name.
    pub(crate) fn namespace(&self, name: &str) -> PathBuf {
        let pin = self.dir.join(name);
        File::create(&pin).unwrap();
        let of_thread = pin.clone();
        let make = move || {
            // SAFETY: as above; the thread ends here.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &of_thread).unwrap();
        };
        std::thread::spawn(make).join().unwrap();
        pin
    }

    /// The other machine's namespace.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.join("outside")
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            overlay_network: Some("10.77.0.0/16".parse().unwrap()),
            fast_path: self.fast_path[0],
            ..Config::new(self.dir.join("network"), HOST)
        }
    }

    /// The host's network, configured.
    pub(crate) async fn network(&self) -> Network {
        let network = Network::open(self.config()).await.unwrap();
        network.configure("10.77.0.1/24".parse().unwrap(), 1450).await.unwrap();
        network.set_known_hosts([PEER]).await.unwrap();
        network
    }
}

pub(crate) fn job(name: &str) -> JobId {
    format!("host1-{name}").parse().unwrap()
}

pub(crate) async fn attach(network: &Network, name: &str, partition: Partition) -> JobNetwork {
    network.attach_job(JobRequest::new(job(name), partition)).await.unwrap()
}

/// Runs `work` in a namespace, on a thread of its own.
pub(crate) fn inside<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let namespace = File::open(namespace).unwrap();
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    std::thread::spawn(enter).join().unwrap()
}

/// iproute2 in the thread's namespace.
pub(crate) fn ip(arguments: &str) {
    run_program("ip", arguments);
}

/// A program in the thread's namespace, which must succeed.
pub(crate) fn run_program(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

/// What a program prints.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Answers every connection with the caller's address, until the test's process ends or the
/// namespace is of no use any more.
pub(crate) fn serve(ip: Ipv4Addr, port: u16) {
    let listener = TcpListener::bind((ip, port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = write!(stream, "{}", from.ip());
        }
    });
}

pub(crate) fn serve_inside(namespace: &Path, ip: Ipv4Addr, ports: &[u16]) {
    let ports = ports.to_vec();
    inside(namespace, move || ports.into_iter().for_each(|port| serve(ip, port)));
}

/// Connects from the thread's namespace and says which address the server saw. `None`: no way there.
pub(crate) fn connect(
    from: Option<Ipv4Addr>,
    to: Ipv4Addr,
    port: u16,
    wait: Duration,
) -> Option<String> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(from, 0)).into()).unwrap();
    }
    socket.connect_timeout(&SocketAddr::V4(SocketAddrV4::new(to, port)).into(), wait).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut seen = String::new();
    stream.read_to_string(&mut seen).unwrap();
    Some(seen)
}

/// Whether a connection comes about, told as early as can be: an expected one may take long, an
/// unexpected one has [`SURELY_DROPPED`].
pub(crate) fn reaches(from: Option<Ipv4Addr>, to: Ipv4Addr, port: u16, expected: bool) -> bool {
    let wait = if expected { DEADLINE } else { SURELY_DROPPED };
    connect(from, to, port, wait).is_some()
}

/// A datagram socket in a namespace.
pub(crate) fn datagrams(namespace: &Path, ip: Ipv4Addr, port: u16) -> UdpSocket {
    inside(namespace, move || {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    })
}

/// The next datagram's text.
pub(crate) fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0_u8; 64];
    let size = socket.recv(&mut buffer).expect("a datagram before the deadline");
    String::from_utf8_lossy(&buffer[..size]).into_owned()
}
