//! The process inside of the sandbox that holds the hosts and does what the verbs ask for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{ALL, Answer, Files, Place, Verb};
use crate::hosts::{Host, Hosts, eventually};
use crate::{images, sandbox};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What people and the daemon run; the rest is in images.
const PROGRAMS: [&str; 3] = ["flynn", "flynn-host", "flynn-init"];
/// What a platform is made of, and what its examples are.
const IMAGES: [&str; 7] =
    ["core", "component", "postgres", "gitreceive", "stack-build", "stack-run", "test-apps"];

/// Runs the cluster until it is told to end.
pub(super) fn keep(files: &Files, up: &Verb) -> anyhow::Result<ExitCode> {
    let Verb::Up { hosts, no_bootstrap, disk, cache, domain } = up else {
        bail!("a keeper is started by up");
    };
    ensure!(*hosts > 0 && *hosts != 2, "a cluster has one host or at least three");
    let state = PathBuf::from(std::env::var_os(sandbox::STATE_ENV).context("no sandbox")?);
    let mut keeper = Keeper {
        bin: copy_programs(&state)?,
        home: state.join("home"),
        network: Hosts::in_sandbox()?,
        members: BTreeMap::new(),
        disk: disk.clone(),
        state,
    };
    fs::create_dir_all(&keeper.home)?;
    keeper.boot(*hosts)?;
    if !no_bootstrap {
        keeper.bootstrap(cache, domain)?;
    }
    let listener = UnixListener::bind(files.control()).context("cannot listen")?;
    fs::write(files.ready(), "")?;
    say(&keeper.list()?);
    keeper.serve(&listener)
}

#[expect(clippy::print_stdout, reason = "`up` shows it")]
fn say(text: &str) {
    println!("{text}");
}

/// The cluster runs copies, so that a build elsewhere never changes it.
fn copy_programs(state: &Path) -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let from = me.parent().context("no folder of programs")?;
    let bin = state.join("bin");
    fs::create_dir_all(&bin)?;
    for program in PROGRAMS {
        fs::copy(from.join(program), bin.join(program))
            .with_context(|| format!("{program} is not built"))?;
    }
    Ok(bin)
}

struct Keeper {
    bin: PathBuf,
    home: PathBuf,
    state: PathBuf,
    disk: String,
    network: Hosts,
    members: BTreeMap<String, Member>,
}

/// A host and its daemon, or rather the parent of that.
struct Member {
    host: Host,
    daemon: Option<Child>,
}

impl Keeper {
    fn boot(&mut self, count: u8) -> anyhow::Result<()> {
        for number in 1..=count {
            self.make(&format!("host{number}"))?;
        }
        let peers: Vec<_> = self.members.values().map(|member| member.host.ip).collect();
        for member in self.members.values_mut() {
            say(&format!("starting {}", member.host.id));
            member.host.init(&self.bin, &peers)?;
            member.start(&self.bin)?;
        }
        Ok(())
    }

    fn make(&mut self, id: &str) -> anyhow::Result<()> {
        ensure!(!self.members.contains_key(id), "there is a host {id}");
        let fits =
            !id.is_empty() && id.len() <= 12 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        ensure!(fits, "{id:?} is no name for a host: letters and digits, at most twelve");
        let host = self.network.add(id)?;
        host.bound_disk(&self.disk)?;
        self.members.insert(id.to_owned(), Member { host, daemon: None });
        Ok(())
    }

    /// Images go to the first host; the others fetch layers from there.
    fn bootstrap(&self, cache: &Path, domain: &str) -> anyhow::Result<()> {
        let first = self.members.values().next().context("no host")?;
        for name in IMAGES {
            say(&format!("importing image {name}"));
            let image = images::built(cache, name)?;
            let data = first.host.data_dir();
            let args = ["image", "--data-dir", &data.to_string_lossy(), "import", name];
            let mut import = first.host.flynn_host(&self.bin, &args);
            let done = import.args(&image.layers).output()?;
            ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let ips: Vec<_> = self.members.values().map(|member| member.host.ip.to_string()).collect();
        let (hosts, peers) = (ips.len().to_string(), ips.join(","));
        let args = ["bootstrap", "--min-hosts", &hosts, "--peer-ips", &peers];
        let mut bootstrap = first.host.flynn_host(&self.bin, &args);
        bootstrap.args(["--job-timeout", "120", "--data-dir"]).arg(first.host.data_dir());
        bootstrap.env("CLUSTER_DOMAIN", domain).stdout(Stdio::piped());
        let mut running = bootstrap.spawn()?;
        let lines = BufReader::new(running.stdout.take().context("stdout was asked for")?).lines();
        for line in lines {
            let line = line?;
            match line.strip_prefix("flynn ").filter(|rest| rest.starts_with("cluster add")) {
                Some(rest) => self.add_cluster(&first.host, rest)?,
                None => say(&line),
            }
        }
        let status = running.wait()?;
        ensure!(status.success(), "bootstrap failed: see {}", first.host.log_path().display());
        Ok(())
    }

    /// The printed line, without touching git's settings. It holds the cluster's key.
    fn add_cluster(&self, host: &Host, line: &str) -> anyhow::Result<()> {
        let mut words: Vec<_> = line.split(' ').collect();
        words.insert(2, "--no-git");
        let mut flynn = host.command(self.bin.join("flynn"));
        flynn.args(words).env("HOME", &self.home).env("FLYNNRC", self.home.join("flynnrc"));
        let done = flynn.stdin(Stdio::null()).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn serve(mut self, listener: &UnixListener) -> anyhow::Result<ExitCode> {
        for stream in listener.incoming() {
            let stream = stream?;
            let verb = match read_verb(&stream) {
                Ok(verb) => verb,
                Err(error) => {
                    answer(&stream, Err(error));
                    continue;
                }
            };
            if matches!(verb, Verb::Down) {
                answer(&stream, Ok(String::new()));
                break;
            }
            answer(&stream, self.perform(&verb));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn perform(&mut self, verb: &Verb) -> anyhow::Result<String> {
        let done = String::new();
        match verb {
            Verb::List => self.list(),
            Verb::Ip { host } => Ok(self.member(host)?.host.ip.to_string()),
            Verb::Where { host } => self.place(host),
            Verb::Add { host } => self.add(host).map(|()| done),
            Verb::Kill { host, process } => {
                counted(self.member(host)?.host.signal(process, libc::SIGKILL)?, "killed")
            }
            Verb::Freeze { host, process } => {
                counted(self.member(host)?.host.freeze(process)?, "frozen")
            }
            Verb::Thaw { host, process } => {
                counted(self.member(host)?.host.thaw(process)?, "go on")
            }
            Verb::Clock { host, seconds } => {
                counted(self.member(host)?.host.set_clock(*seconds)?, "read that time")
            }
            Verb::PowerCut { host } => self.power_cut(host).map(|()| done),
            Verb::Start { host } => self.start(host).map(|()| done),
            Verb::Partition { hosts } => {
                hosts.iter().try_for_each(|host| self.member(host).map(drop))?;
                let ids: Vec<_> = hosts.iter().map(String::as_str).collect();
                self.network.partition(&ids).map(|()| done)
            }
            Verb::Heal => self.network.heal().map(|()| done),
            Verb::FillDisk { host } => self.member(host)?.host.fill_disk().map(|()| done),
            Verb::FreeDisk { host } => self.member(host)?.host.free_disk().map(|()| done),
            Verb::Up { .. } | Verb::Down | Verb::Exec { .. } | Verb::Keep { .. } => {
                bail!("the keeper is not asked for this")
            }
        }
    }

    fn member(&self, id: &str) -> anyhow::Result<&Member> {
        self.members.get(id).with_context(|| format!("there is no host {id}"))
    }

    fn list(&mut self) -> anyhow::Result<String> {
        let mut text = format!("{:<12}  {:<15}  STATE", "ID", "ADDRESS");
        for (id, member) in &mut self.members {
            let state = if member.is_on()? { "on" } else { "off" };
            text += &format!("\n{id:<12}  {:<15}  {state}", member.host.ip.to_string());
        }
        Ok(text)
    }

    fn place(&self, id: &str) -> anyhow::Result<String> {
        let place = Place {
            init: self.member(id)?.host.init_pid(),
            state: self.state.clone(),
            bin: self.bin.clone(),
            home: self.home.clone(),
        };
        Ok(serde_json::to_string(&place)?)
    }

    /// A host is admitted by one that is on, then it joins by itself.
    fn add(&mut self, id: &str) -> anyhow::Result<()> {
        let peers: Vec<Ipv4Addr> = self.members.values().map(|member| member.host.ip).collect();
        self.make(id)?;
        let ip = self.member(id)?.host.ip.to_string();
        let mut on = None;
        for (other, member) in &mut self.members {
            if other != id && member.is_on()? {
                on = Some(member);
                break;
            }
        }
        let on = on.context("no host is on")?;
        let admitted = on.host.flynn_host(&self.bin, &["admit", &ip]).output()?;
        ensure!(admitted.status.success(), "{}", String::from_utf8_lossy(&admitted.stderr));
        let bin = self.bin.clone();
        let member = self.members.get_mut(id).context("it was just made")?;
        member.host.init(&bin, &peers)?;
        member.start(&bin)
    }

    /// The members a word means.
    fn meant(&mut self, id: &str) -> anyhow::Result<Vec<&mut Member>> {
        let meant: Vec<_> = self
            .members
            .iter_mut()
            .filter(|(name, _)| id == ALL || *name == id)
            .map(|(_, member)| member)
            .collect();
        ensure!(!meant.is_empty(), "there is no host {id}");
        Ok(meant)
    }

    fn power_cut(&mut self, id: &str) -> anyhow::Result<()> {
        let meant = self.meant(id)?;
        std::thread::scope(|scope| {
            let cuts: Vec<_> =
                meant.into_iter().map(|member| scope.spawn(|| member.power_cut())).collect();
            cuts.into_iter()
                .try_for_each(|cut| cut.join().map_err(|_panic| anyhow::anyhow!("a panic"))?)
        })
    }

    fn start(&mut self, id: &str) -> anyhow::Result<()> {
        let bin = self.bin.clone();
        for member in self.meant(id)? {
            if !member.is_on()? {
                member.start(&bin)?;
            }
        }
        Ok(())
    }
}

impl Member {
    fn is_on(&mut self) -> anyhow::Result<bool> {
        Ok(match &mut self.daemon {
            Some(daemon) => daemon.try_wait()?.is_none(),
            None => false,
        })
    }

    /// Starts the daemon and waits until it answers.
    fn start(&mut self, bin: &Path) -> anyhow::Result<()> {
        self.daemon = Some(self.host.daemon(bin, "watch")?.spawn()?);
        let answers = || {
            let mut status = self.host.flynn_host(bin, &["status"]);
            status.env("FLYNN_HOST_URL", "http://127.0.0.1:1113");
            is_success(status).then_some(())
        };
        eventually(PATIENCE, answers).with_context(|| {
            format!("the daemon does not answer: see {}", self.host.log_path().display())
        })
    }

    fn power_cut(&mut self) -> anyhow::Result<()> {
        self.host.power_cut()?;
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait()?;
        }
        Ok(())
    }
}

fn is_success(mut command: Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn counted(count: usize, what: &str) -> anyhow::Result<String> {
    Ok(format!("{count} {what}"))
}

fn read_verb(stream: &UnixStream) -> anyhow::Result<Verb> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn answer(mut stream: &UnixStream, result: anyhow::Result<String>) {
    let answer = Answer { text: result.map_err(|error| format!("{error:#}")) };
    let line = serde_json::to_string(&answer).unwrap_or_default();
    // Who asked may have left.
    drop(writeln!(stream, "{line}"));
}
