//! Some hosts with real kernels' networks, on one switch. Each host's overlay runs on a thread in the
//! host's namespace; discoverd and the hosts' daemons answer at the switch.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kit_tasks::{Running, Tasks};
use netplan::{BackendKind, ConfigInput};
use overlay::Config;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::servers::{Discoverd, Host, until};

/// The switch's own address.
pub(crate) const SWITCH: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// How long a server's end may take.
const GRACE: Duration = Duration::from_secs(30);

/// Runs a test as the only thing on its machine, which is the switch.
pub(crate) fn in_a_world<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let machine = move || {
        // SAFETY: the thread is made for this and ends with it; those it starts are to share the
        // namespace.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        ip("link set lo up");
        ip("link add switch type bridge");
        ip(&format!("addr add {SWITCH}/24 dev switch"));
        ip("link set switch up");
        // Its workers begin in this thread's namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async move {
            let (discoverd, server) = Discoverd::start_on(SWITCH).await;
            test(World { dir: path, discoverd, server }).await;
        });
    };
    let ended = std::thread::Builder::new().name("machine".into()).spawn(machine).unwrap().join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// The switch with discoverd.
pub(crate) struct World {
    dir: PathBuf,
    pub(crate) discoverd: Discoverd,
    pub(crate) server: Running,
}

/// A host on the switch.
pub(crate) struct Machine {
    pub(crate) ip: Ipv4Addr,
    pub(crate) daemon: Host,
    namespace: Arc<File>,
    url: String,
    dir: PathBuf,
    overlay: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl World {
    /// A new host, whose daemon knows discoverd; nothing runs on it yet.
    pub(crate) async fn host(&self, number: u8) -> Machine {
        let own = || {
            // SAFETY: the thread ends here; the namespace lives on in the descriptor.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let (send_pid, pid) = std::sync::mpsc::sync_channel(1);
        let (ready, wait) = std::sync::mpsc::sync_channel::<()>(1);
        // `ip` names a namespace by a thread that is in it.
        let thread = std::thread::spawn(move || {
            let namespace = own();
            send_pid.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            let _ = wait.recv();
            namespace
        });
        let pid = pid.recv().unwrap();
        ip(&format!("link add h{number} type veth peer name up0 netns {pid}"));
        ip(&format!("link set h{number} master switch up"));
        ready.send(()).unwrap();
        let namespace = Arc::new(thread.join().unwrap());
        let ip = Ipv4Addr::new(192, 0, 2, 10 + number);
        let (daemon, url) = Host::start_on(SWITCH).await;
        daemon.knows(&self.server);
        let dir = self.dir.join(number.to_string());
        let machine = Machine { ip, daemon, namespace, url, dir, overlay: None };
        machine.run(&format!("addr add {ip}/24 dev up0"));
        machine.run("link set up0 up");
        machine.run("link set lo up");
        machine
    }
}

impl Machine {
    /// Starts its overlay and waits until the daemon has its network.
    pub(crate) async fn start(&mut self, backend: Option<BackendKind>) -> String {
        let told = self.daemon.told().len();
        let config = Config {
            listen: (self.ip, 5002).into(),
            external_ip: self.ip,
            host_url: self.url.clone(),
            job_id: "host1-flannel".to_owned(),
            data_dir: self.dir.clone(),
            network: ConfigInput::of("10.3.0.0/16".parse().unwrap()),
            backend,
            mtu: None,
            recheck: Duration::from_millis(100),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let tasks = Tasks::root("host");
                overlay::start(config, &tasks).await.unwrap();
                let _ = stopped.await;
                tasks.shutdown(GRACE).await;
            });
        };
        self.overlay = Some((stop, self.thread(body)));
        let daemon = self.daemon.clone();
        until("the daemon to be told", || daemon.told().get(told).cloned()).await.subnet
    }

    /// Ends its overlay, as a deployment or a power cut would.
    pub(crate) async fn stop(&mut self) {
        let (stop, thread) = self.overlay.take().unwrap();
        drop(stop);
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    }

    /// Runs `ip` there.
    pub(crate) fn run(&self, arguments: &str) -> String {
        self.program("ip", arguments)
    }

    /// Runs a program there.
    pub(crate) fn program(&self, program: &'static str, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.inside(move || output_of(program, &arguments))
    }

    /// Runs `work` there, on a thread of its own.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.thread(work).join().unwrap()
    }

    fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = self.namespace.clone();
        std::thread::spawn(move || {
            let of_link = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), of_link).unwrap();
            work()
        })
    }

    /// Gives the host the address a job of its would have, and a socket there.
    pub(crate) fn job(&self, subnet: &str) -> UdpSocket {
        let ip: Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
        self.run(&format!("addr replace {ip}/32 dev lo"));
        self.inside(move || {
            let socket = UdpSocket::bind((ip, 7000)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        })
    }

    /// Routes, ARP and forwarding entries to other hosts, as iproute2 shows them.
    pub(crate) fn entries(&self) -> [Vec<String>; 3] {
        let lines = |text: String| {
            let mut lines: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
            lines.sort();
            lines
        };
        let device = self.has_tunnel();
        let of_device = |program, arguments| {
            if device { lines(self.program(program, arguments)) } else { Vec::new() }
        };
        [
            lines(self.run("route show proto 241")),
            of_device("ip", "neigh show dev flannel.1 nud permanent"),
            of_device("bridge", "fdb show dev flannel.1"),
        ]
    }

    pub(crate) fn has_tunnel(&self) -> bool {
        self.run("-o link show").contains("flannel.1")
    }

    /// How often the host had to cut a packet in pieces.
    pub(crate) fn fragments(&self) -> u64 {
        let text = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "FragCreates").unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }
}

/// Sends until one arrives: the way may still be made.
pub(crate) async fn arrives(from: &UdpSocket, to: &UdpSocket, size: usize) {
    let packet = vec![7_u8; size];
    let addr = to.local_addr().unwrap();
    until("a packet to arrive", || {
        // While there is no route the kernel says so.
        let _ = from.send_to(&packet, addr);
        let mut buffer = vec![0_u8; size + 1];
        to.recv(&mut buffer).ok().filter(|got| *got == size)
    })
    .await;
}

/// iproute2 in the thread's namespace.
fn ip(arguments: &str) {
    output_of("ip", arguments);
}

fn output_of(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
