//! One process per job that outlives the daemon: makes the container, holds its streams and its end,
//! registers its services, answers on a socket. Single-threaded: one loop over poll(2).

mod clients;
mod container;
mod ending;
mod orders;
mod signals;
mod streams;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::init::{FromInit, ToInit};
use crate::protocol::{ExitRecord, JobSpec, Notice, State, StateReport, Stream};
use crate::services::Services;
use crate::spool::Spool;
use crate::sys;
use clients::Clients;
use container::Container;
use streams::Streams;

/// How long services may take to be taken out before a signal is delivered or the supervisor ends.
const DEREGISTER: Duration = Duration::from_secs(5);
/// How long output may stay open after everybody of the job was killed.
const DRAIN: Duration = Duration::from_secs(5);
/// How long connected clients may take to read the rest.
const LINGER: Duration = Duration::from_secs(10);
/// The longest sleep, against clocks and wake-ups nobody thought of.
const NAP: Duration = Duration::from_secs(60);

/// Runs the job described on standard input until it has ended; the exit code is the process's.
pub fn run_supervisor() -> i32 {
    match Supervisor::prepare() {
        Ok(mut supervisor) => {
            supervisor.run();
            0
        }
        Err(_) => 1,
    }
}

struct Supervisor {
    spec: JobSpec,
    signals: OwnedFd,
    listener: UnixListener,
    clients: Clients,
    spools: [Spool; 3],
    state: State,
    container: Option<Container>,
    streams: Streams,
    services: Services,
    resume_wanted: bool,
    /// Init was told to start the program.
    resumed: bool,
    started_at: Option<u64>,
    oom_kills: u64,
    /// How the program ended, as init told: exit code and signal.
    outcome: Option<(Option<i32>, Option<i32>)>,
    failure: Option<String>,
    /// When init was seen to be gone.
    init_ended: Option<Instant>,
    exit: Option<ExitRecord>,
    /// When the record was written.
    concluded: Option<Instant>,
    /// A signal for the program once its services are out, and when it goes at the latest.
    held_signal: Option<(i32, Instant)>,
    /// The moment up to which everything due has been done.
    turned: Instant,
}

/// What poll(2) found something on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Init,
    InitEnd,
    OutOfMemory,
    Output(Stream),
    Input,
    Client(usize),
    Service,
}

impl Supervisor {
    fn prepare() -> io::Result<Self> {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        let spec: JobSpec = serde_json::from_slice(&text)?;
        leave_daemon()?;
        let now = Instant::now();
        let spool = |stream| Spool::create(&spec.job_dir, stream, spec.spool_bytes);
        Ok(Self {
            signals: sys::signals_as_descriptor()?,
            spools: [spool(Stream::Stdout)?, spool(Stream::Stderr)?, spool(Stream::Init)?],
            listener: clients::listener()?,
            clients: Clients::default(),
            state: State::Initial,
            container: None,
            streams: Streams::default(),
            services: Services::new(
                &spec.services,
                &spec.instance_meta,
                spec.discoverd.as_deref(),
                now,
            ),
            resume_wanted: spec.resume_at_once,
            resumed: false,
            started_at: None,
            oom_kills: 0,
            outcome: None,
            failure: None,
            init_ended: None,
            exit: None,
            concluded: None,
            held_signal: None,
            turned: now,
            spec,
        })
    }

    fn run(&mut self) {
        ending::leave_unit(&self.spec.cgroup.prefix, |warning| {
            log(&mut self.spools[2], "warn", warning);
        });
        match container::start(&self.spec) {
            Ok(container) => {
                for name in &container.unlimited {
                    log(&mut self.spools[2], "warn", &format!("this machine cannot limit {name}"));
                }
                self.container = Some(container);
            }
            Err(error) => {
                self.failure = Some(error.report());
                self.init_ended = Some(Instant::now());
                self.conclude_if_over();
            }
        }
        while !self.is_done() || self.takes_late_clients() {
            for (source, flags) in self.wait() {
                self.handle(source, flags);
            }
            self.turn();
        }
    }

    /// What is done after every wake-up, whatever the reason.
    fn turn(&mut self) {
        let now = Instant::now();
        self.turned = now;
        self.read_orders(now);
        self.deliver_held_signal(now);
        self.advance_services(now);
        self.conclude_if_over();
        let ended = self.concluded.is_some();
        let outputs_closed = ended || (self.state == State::Running && self.streams.are_drained());
        let stdout = outputs_closed
            || (self.state == State::Running && self.streams.output(Stream::Stdout).is_none());
        let stderr = outputs_closed
            || (self.state == State::Running && self.streams.output(Stream::Stderr).is_none());
        let room = self.streams.has_room();
        self.clients.pump(&self.spools, [stdout, stderr, ended], room, now);
        if ended {
            let report = Notice::State(Box::new(self.report()));
            self.clients.tell_end(&report);
            self.clients.pump(&self.spools, [true; 3], room, now);
        }
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let sources = self.sources();
        let mut fds: Vec<_> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let nap = self.next_timeout().saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(nap.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(nap.subsec_nanos()),
        };
        // An interrupted wait is a short one.
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let found = sources.iter().zip(&fds).map(|((source, _, _), fd)| (*source, fd.revents()));
        found.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let readable = PollFlags::IN;
        let mut all = vec![
            (Source::Signals, self.signals.as_fd(), readable),
            (Source::Listener, self.listener.as_fd(), readable),
        ];
        if let Some(container) = self.container.as_ref().filter(|_| self.init_ended.is_none()) {
            all.push((Source::InitEnd, container.pidfd.as_fd(), readable));
            if self.outcome.is_none() && self.failure.is_none() {
                all.push((Source::Init, container.channel.as_fd(), readable));
            }
            all.extend(
                container.oom.as_ref().map(|oom| (Source::OutOfMemory, oom.as_fd(), oom.flags())),
            );
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let spool = &self.spools[usize::from(stream.number() - 1)];
            let held_up = self.clients.lag_behind(spool, stream, self.spec.spool_bytes.0 / 2);
            let fd = self.streams.output(stream).filter(|_| !held_up);
            all.extend(fd.map(|fd| (Source::Output(stream), fd, readable)));
        }
        all.extend(self.streams.input().map(|fd| (Source::Input, fd, PollFlags::OUT)));
        let clients = self.clients.interest(self.streams.has_room()).enumerate();
        // Left out when nothing is wanted of it: its hanging up would wake us again and again.
        let clients = clients.filter(|(_, (_, flags))| !flags.is_empty());
        all.extend(
            clients.map(|(at, (stream, flags))| (Source::Client(at), stream.as_fd(), flags)),
        );
        all.extend(
            self.services.interest().into_iter().map(|(fd, flags)| (Source::Service, fd, flags)),
        );
        all
    }

    fn next_timeout(&self) -> Instant {
        let nap = Instant::now() + NAP;
        let ends = [
            self.services.next_timeout(),
            self.clients.next_timeout(self.turned),
            self.held_signal.map(|(_, latest)| latest),
            self.init_ended.filter(|_| self.concluded.is_none()).map(|at| at + DRAIN),
            self.concluded.map(|at| at + DEREGISTER),
            self.concluded.map(|at| at + LINGER),
        ];
        // What was due then has been done, as far as it could be.
        ends.into_iter().flatten().filter(|at| *at > self.turned).fold(nap, Instant::min)
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => self.accept(),
            Source::Init => self.listen_to_init(),
            Source::InitEnd => self.init_has_ended(),
            Source::OutOfMemory => self.look_at_memory(),
            Source::Output(stream) => {
                let spool = &mut self.spools[usize::from(stream.number() - 1)];
                self.streams.drain(stream, spool, self.spec.spool_bytes);
            }
            Source::Input => self.streams.feed(),
            Source::Client(at)
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) =>
            {
                if let Some(client) = self.clients.get(at) {
                    client.receive();
                }
            }
            // What can be sent is sent, and services go on, at the end of every turn.
            Source::Client(_) | Source::Service => {}
        }
    }

    fn accept(&mut self) {
        let report = self.report();
        let greeting = || Notice::State(Box::new(report.clone()));
        self.clients.accept(&self.listener, greeting, Instant::now());
    }

    /// Closes the door, and tells whether somebody came in just before.
    fn takes_late_clients(&mut self) -> bool {
        if self.concluded.is_some_and(|at| at.elapsed() >= LINGER) {
            return false;
        }
        // A name that is gone already is fine, and so is one that stays: connecting is refused then.
        let _ = std::fs::remove_file(self.spec.job_dir.join(crate::protocol::SOCKET_NAME));
        self.accept();
        !self.is_done()
    }

    fn take_signals(&mut self) {
        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
            match signal {
                libc::SIGTERM | libc::SIGINT => self.signal_after_deregistering(signal),
                // Children are reaped when the pidfd of init tells; others have no meaning here.
                _ => {}
            }
        }
    }

    fn listen_to_init(&mut self) {
        loop {
            let Some(container) = &mut self.container else { return };
            match container.channel.receive_now::<FromInit>() {
                Ok(Some(message)) => self.take_message(message),
                Ok(None) => return,
                Err(_) => {
                    // Nothing more comes; its end tells the rest. A talkative broken init is ended.
                    let _ = sys::kill(container.init_pid as i32, libc::SIGKILL);
                    self.init_has_ended();
                    return;
                }
            }
        }
    }

    fn take_message(&mut self, message: FromInit) {
        match message {
            FromInit::Ready if self.state == State::Initial => self.init_is_ready(),
            FromInit::Running if self.state == State::Ready => {
                self.started_at = Some(unix_now());
                self.change_state(State::Running);
                container::forget_mounts(&self.spec.job_dir);
                log(&mut self.spools[2], "info", "starting the job");
                self.services.start(Instant::now());
            }
            FromInit::Failed { error } => self.failure = Some(error),
            FromInit::Relay { signal } => self.signal_after_deregistering(signal),
            FromInit::Exited { code, signal } => self.outcome = Some((code, signal)),
            FromInit::Ready | FromInit::Running => {}
        }
    }

    fn init_is_ready(&mut self) {
        let Some(container) = &mut self.container else { return };
        let fds = container.channel.take_descriptors();
        if let Err(error) = self.streams.open(self.spec.tty, self.spec.open_stdin, fds) {
            self.failure = Some(error.to_string());
            self.kill_all();
        }
        self.change_state(State::Ready);
        self.resume_if_wanted();
    }

    fn resume_if_wanted(&mut self) {
        if self.resume_wanted
            && self.state == State::Ready
            && let Some(container) = &self.container
        {
            self.resume_wanted = false;
            self.resumed = true;
            // When init is gone, its end is noticed anyway.
            let _ = container.channel.send_now(&ToInit::Resume);
        }
    }

    fn change_state(&mut self, state: State) {
        self.state = state;
        if !state.has_ended() {
            let report = self.report();
            self.clients.notify_all(&Notice::State(Box::new(report)));
        }
    }

    fn report(&self) -> StateReport {
        let lives = self.init_ended.is_none();
        StateReport {
            job_id: self.spec.job_id.clone(),
            state: self.state,
            pid: self.container.as_ref().filter(|_| lives).map(|container| container.init_pid),
            supervisor_pid: std::process::id(),
            started_at_unix_ns: self.started_at,
            exit: self.exit.clone(),
            oom_kills: self.oom_kills,
            streams: self.spools.iter().map(Spool::report).collect(),
            services: self.services.report(),
        }
    }
}

/// A session of its own, no inherited directory or streams, and the parent of what the job orphans.
fn leave_daemon() -> io::Result<()> {
    sys::close_rest()?;
    // Fails only for a process that leads a group already, which is as good.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    sys::put_on(null.as_fd(), 0)
}

/// A line of the init log (spec/host.md §5): logfmt.
fn log(spool: &mut Spool, level: &str, message: &str) {
    spool.append(format!("lvl={level} msg={message:?} component=containerinit\n").as_bytes());
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
