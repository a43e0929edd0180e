//! A host without a kernel's network and with supervisors that are threads of this process.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_api::{HostClient, Job, Mountspec};
use host_container::protocol::{
    ClientFrame, Decoder, ExitRecord, JobSpec, Notice, Order, SOCKET_NAME, State, StateReport,
    Stream, SupervisorFrame,
};
use host_image::{Form, LayerStore};
use host_network::{JobNetwork, JobRequest, NetworkError, Restored, Subnet};
use kit_ids::JobId;
use kit_tasks::Tasks;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the bridge would be, in the test that has one.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// The address of the one job that gets one.
pub(crate) const JOB_IP: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 9);

/// A network without a kernel: one address for whoever asks.
#[derive(Debug, Default)]
struct NoNets {
    known_hosts: Mutex<Vec<Ipv4Addr>>,
}

#[async_trait::async_trait]
impl host::Nets for NoNets {
    async fn configure(&self, _: Subnet, _: u32) -> Result<(), NetworkError> {
        Ok(())
    }
    async fn attach_job(&self, _: JobRequest) -> Result<JobNetwork, NetworkError> {
        Ok(JobNetwork {
            netns: PathBuf::from("/proc/self/ns/net"),
            ip: JOB_IP,
            prefix_len: 24,
            gateway: BRIDGE,
            mac: String::new(),
            veth: String::new(),
            mtu: 1500,
        })
    }
    async fn detach_job(&self, _: &JobId) -> Result<(), NetworkError> {
        Ok(())
    }
    async fn restore(&self, _: &BTreeSet<JobId>) -> Result<Restored, NetworkError> {
        Ok(Restored::default())
    }
    async fn set_known_hosts(&self, hosts: Vec<Ipv4Addr>) -> Result<(), NetworkError> {
        *self.known_hosts.lock().unwrap() = hosts;
        Ok(())
    }
    async fn set_overlay(&self, _: host_network::Overlay) -> Result<(), NetworkError> {
        Ok(())
    }
}

/// Supervisors whose program is its arguments: `say TEXT`, `exit N`, `wait` for a signal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisors {
    started: Arc<Mutex<Vec<JobSpec>>>,
}

impl host::Launcher for Supervisors {
    fn launch(&self, spec: &JobSpec) -> std::io::Result<Option<std::process::Child>> {
        self.started.lock().unwrap().push(spec.clone());
        let listener = UnixListener::bind(spec.job_dir.join(SOCKET_NAME))?;
        let spec = spec.clone();
        std::thread::spawn(move || Supervisor::new(spec).run(&listener));
        Ok(None)
    }
}

impl Supervisors {
    pub(crate) fn specs(&self) -> Vec<JobSpec> {
        self.started.lock().unwrap().clone()
    }
}

struct Shared {
    state: State,
    output: Vec<u8>,
    exit: Option<i32>,
    signal: Option<i32>,
}

struct Supervisor {
    spec: JobSpec,
    shared: Arc<(Mutex<Shared>, std::sync::Condvar)>,
}

impl Supervisor {
    fn new(spec: JobSpec) -> Self {
        let shared = Shared { state: State::Ready, output: Vec::new(), exit: None, signal: None };
        Self { spec, shared: Arc::new((Mutex::new(shared), std::sync::Condvar::new())) }
    }

    fn run(self, listener: &UnixListener) {
        let this = Arc::new(self);
        let program = this.clone();
        std::thread::spawn(move || program.program());
        loop {
            let Ok((stream, _)) = listener.accept() else { return };
            if !this.spec.job_dir.exists() {
                return;
            }
            let this = this.clone();
            std::thread::spawn(move || this.serve(stream));
        }
    }

    fn program(&self) {
        let (shared, changed) = &*self.shared;
        let ready = shared.lock().unwrap();
        drop(changed.wait_while(ready, |shared| shared.state == State::Ready).unwrap());
        for step in self.spec.args.chunks(2) {
            match (step[0].as_str(), step.get(1)) {
                ("say", Some(text)) => {
                    shared.lock().unwrap().output.extend_from_slice(text.as_bytes());
                    changed.notify_all();
                }
                ("exit", Some(status)) => self.end(status.parse().unwrap()),
                ("wait", _) => {
                    let running = shared.lock().unwrap();
                    drop(changed.wait_while(running, |shared| shared.signal.is_none()).unwrap());
                    self.end(0);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn end(&self, status: i32) {
        let (shared, changed) = &*self.shared;
        std::fs::write(
            self.spec.job_dir.join("exit.json"),
            serde_json::to_vec(&self.exit_record(status)).unwrap(),
        )
        .unwrap();
        let mut shared = shared.lock().unwrap();
        shared.exit = Some(status);
        shared.state = State::Exited;
        changed.notify_all();
    }

    fn exit_record(&self, status: i32) -> ExitRecord {
        ExitRecord {
            job_id: self.spec.job_id.clone(),
            state: State::Exited,
            code: Some(status),
            signal: None,
            oom_kills: 0,
            memory_peak: None,
            error: None,
            started_at_unix_ns: Some(1),
            ended_at_unix_ns: 2,
        }
    }

    fn serve(self: Arc<Self>, stream: UnixStream) {
        let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        self.report(&writer);
        let mut decoder = Decoder::default();
        let mut chunk = [0; 4096];
        let mut stream = stream;
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            decoder.extend(&chunk[..count]);
            while let Some(frame) = decoder.next_frame::<ClientFrame>().unwrap() {
                if let ClientFrame::Request(request) = frame {
                    self.order(&request.order, &writer);
                    send(
                        &writer,
                        &SupervisorFrame::Notice(Notice::Reply { id: request.id, error: None }),
                    );
                }
            }
        }
    }

    fn order(self: &Arc<Self>, order: &Order, writer: &Arc<Mutex<UnixStream>>) {
        let (shared, changed) = &*self.shared;
        match order {
            Order::Resume => {
                let mut shared = shared.lock().unwrap();
                if shared.state == State::Ready {
                    shared.state = State::Running;
                }
            }
            Order::Signal { signal } => shared.lock().unwrap().signal = Some(*signal),
            Order::OpenOutput { stdout, .. } => {
                let (this, writer, from) = (self.clone(), writer.clone(), stdout.unwrap_or(0));
                std::thread::spawn(move || this.follow(&writer, from));
            }
            other @ (Order::GetState
            | Order::Resize { .. }
            | Order::Deregister
            | Order::SetDiscoverd { .. }
            | Order::HttpsResult { .. }) => panic!("{other:?}"),
        }
        changed.notify_all();
    }

    /// Output first, then each change of state, as the protocol promises.
    fn follow(&self, writer: &Arc<Mutex<UnixStream>>, from: u64) {
        let (shared, changed) = &*self.shared;
        let mut at = usize::try_from(from).unwrap();
        let mut told = State::Ready;
        loop {
            let guard = shared.lock().unwrap();
            let guard = changed
                .wait_while(guard, |shared| shared.output.len() <= at && shared.state == told)
                .unwrap();
            let (bytes, state) = (guard.output.get(at..).unwrap_or_default().to_vec(), guard.state);
            drop(guard);
            if !bytes.is_empty() {
                let offset = at as u64;
                at += bytes.len();
                send(writer, &SupervisorFrame::Output { stream: Stream::Stdout, offset, bytes });
            }
            if state != told {
                told = state;
                self.report(writer);
            }
            if told.has_ended() {
                return;
            }
        }
    }

    fn report(&self, writer: &Arc<Mutex<UnixStream>>) {
        let shared = self.shared.0.lock().unwrap();
        let report = StateReport {
            job_id: self.spec.job_id.clone(),
            state: shared.state,
            pid: (shared.state == State::Running).then_some(4711),
            supervisor_pid: 1,
            started_at_unix_ns: Some(1),
            exit: shared.exit.map(|status| self.exit_record(status)),
            oom_kills: 0,
            streams: Vec::new(),
            services: Vec::new(),
        };
        drop(shared);
        send(writer, &SupervisorFrame::Notice(Notice::State(Box::new(report))));
    }
}

fn send(writer: &Mutex<UnixStream>, frame: &SupervisorFrame) {
    // The daemon may have left.
    drop(writer.lock().unwrap().write_all(&frame.encode()));
}

/// A folder that is unmounted and removed whatever happens.
#[derive(Debug)]
pub(crate) struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(self.0.path()) {
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// A host's disk and supervisors, which outlive its daemon.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) supervisors: Supervisors,
    nets: Arc<NoNets>,
    folder: Folder,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: HostClient,
    pub(crate) url: String,
    daemon: host::Daemon,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        Self { supervisors: Supervisors::default(), nets: Arc::default(), folder }
    }

    /// Whom the firewall lets in.
    pub(crate) fn known_hosts(&self) -> Vec<Ipv4Addr> {
        self.nets.known_hosts.lock().unwrap().clone()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.0.path().to_owned()
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&mut host::Config)) -> Running {
        let mut config =
            host::Config::new("host1".parse().unwrap(), Ipv4Addr::LOCALHOST, self.data());
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.version = "dev".to_owned();
        config.restart.base = Duration::from_millis(10);
        change(&mut config);
        let deps = host::Deps {
            nets: self.nets.clone(),
            launcher: Arc::new(self.supervisors.clone()),
            clock: Arc::new(kit_clock::SystemClock::start()),
            tasks: Tasks::root("test"),
            form: Form::Directory,
        };
        let daemon = host::start(config, deps).await.unwrap();
        let url = format!("http://{}", daemon.running().addr());
        Running { client: HostClient::new(&url).unwrap(), url, daemon }
    }

    /// A job of the host's network with a real layer and this program.
    pub(crate) async fn job(&self, id: &str, args: &[&str]) -> Job {
        let store = LayerStore::open(self.data().join("layers"), Form::Directory).unwrap();
        let source = self.data().join("source");
        std::fs::create_dir_all(&source).unwrap();
        let layer = host_image::import::directory(&store, &source).await.unwrap();
        let mut job = Job::new(id.parse().unwrap());
        job.mountspecs = vec![Mountspec {
            kind: "squashfs".to_owned(),
            id: layer.id,
            size: layer.size.try_into().unwrap(),
            hashes: layer.hashes,
            ..Mountspec::default()
        }];
        job.partition = "system".to_owned();
        job.config.host_network = true;
        job.config.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        job.config.env.insert("DISCOVERD".to_owned(), "none".to_owned());
        job
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.daemon.stop().await;
    }

    /// As on Ctrl-C: jobs end too.
    pub(crate) async fn go_down(self) {
        self.daemon.go_down().await;
        self.daemon.stop().await;
    }

    /// The body and status of any request.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let request = kit_http::Request::new(method, path).body(body.to_owned());
        let request = request.header(http::header::CONTENT_TYPE, "application/json").unwrap();
        let response = self.client.http().send_raw(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap())
    }
}
