//! The verbs outside of the sandbox: starting and ending a cluster, asking its keeper, entering a host.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Answer, Files, Place, Verb};
use crate::hosts::eventually;
use crate::{sandbox, sweep};

/// How long a cluster may take to end by itself.
const END: Duration = Duration::from_secs(60);
/// A cluster stays for as long as it is wanted.
const FOR_EVER: &str = "3153600000";

pub(super) fn up(files: &Files, verb: &Verb) -> anyhow::Result<ExitCode> {
    if let Some(run) = running(files) {
        bail!(
            "the cluster in {} runs already (process {run}): end it with down",
            files.of().display()
        );
    }
    remove(files)?;
    DirBuilder::new().recursive(true).mode(0o700).create(files.of())?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(files.log())?;
    let me = std::env::current_exe()?;
    let mut keeper = Command::new("setsid");
    keeper.arg(&me).arg("sandbox").arg(&me).arg("cluster").arg("--data-dir").arg(files.of());
    keeper.arg("keep").arg(serde_json::to_string(verb)?).env(sandbox::LIMIT_ENV, FOR_EVER);
    let keeper = keeper.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    let mut keeper = keeper.context("cannot start the keeper")?;
    fs::write(files.run(), keeper.id().to_string())?;
    follow(files, &mut keeper)
}

/// Shows what the keeper says until the cluster is up, or is not.
fn follow(files: &Files, keeper: &mut Child) -> anyhow::Result<ExitCode> {
    let mut shown = 0;
    loop {
        let (ready, ended) = (files.ready().exists(), keeper.try_wait()?);
        let mut log = fs::File::open(files.log())?;
        log.seek(SeekFrom::Start(shown))?;
        let mut news = Vec::new();
        shown += log.read_to_end(&mut news)? as u64;
        std::io::stdout().write_all(&news)?;
        if ready {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = ended {
            drop(fs::remove_file(files.run()));
            bail!("the cluster did not come up: {status}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn down(files: &Files) -> anyhow::Result<ExitCode> {
    let Some(run) = running(files) else {
        return remove(files).map(|()| ExitCode::SUCCESS);
    };
    let asked = ask(files, &Verb::Down).is_ok();
    let ended = asked && eventually(END, || running(files).is_none().then_some(())).is_some();
    if !ended {
        // SAFETY: kill takes numbers only; the process is the one that started this cluster.
        unsafe { libc::kill(run, libc::SIGKILL) };
        let gone = eventually(END, || running(files).is_none().then_some(()));
        gone.with_context(|| format!("process {run} does not end"))?;
        let state = sweep::state_root().join(run.to_string());
        sweep::run_of(&state, &format!("{}{run}", sweep::CGROUP_PREFIX))?;
    }
    remove(files).map(|()| ExitCode::SUCCESS)
}

/// The process that started the cluster, while it runs.
fn running(files: &Files) -> Option<i32> {
    let run: i32 = fs::read_to_string(files.run()).ok()?.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{run}/status")).ok()?;
    let is = |name: &str, value: &str| {
        status.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(value))
        })
    };
    // Its parent may be slow to notice that it ended.
    (is("Name:", "flynn-dev") || is("Name:", "setsid"))
        .then_some(run)
        .filter(|_| !is("State:", "Z"))
}

fn remove(files: &Files) -> anyhow::Result<()> {
    match fs::remove_dir_all(files.of()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", files.of().display()))
        }
        _ => Ok(()),
    }
}

/// Has the keeper do something and shows what it says.
#[expect(clippy::print_stdout, reason = "the answer")]
pub(super) fn tell(files: &Files, verb: &Verb) -> anyhow::Result<ExitCode> {
    let text = ask(files, verb)?;
    if !text.is_empty() {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(files: &Files, verb: &Verb) -> anyhow::Result<String> {
    let socket = UnixStream::connect(files.control());
    let mut socket = socket.with_context(|| {
        format!("no cluster runs in {}: start one with up", files.of().display())
    })?;
    writeln!(socket, "{}", serde_json::to_string(verb)?)?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let answer: Answer = serde_json::from_str(&line).context("the keeper ended")?;
    answer.text.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Becomes the command, on the host.
pub(super) fn exec(files: &Files, host: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let place = ask(files, &Verb::Where { host: host.to_owned() })?;
    let place: Place = serde_json::from_str(&place)?;
    let outer = fs::read_to_string(place.state.join(sandbox::INIT_PID))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let enter = ["--mount", "--net", "--pid", "--"];
    let settings = [
        format!("PATH={}:{path}", place.bin.display()),
        format!("HOME={}", place.home.display()),
        format!("FLYNNRC={}", place.home.join("flynnrc").display()),
    ];
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--target={}", outer.trim())).args(enter);
    nsenter.arg("nsenter").arg(format!("--target={}", place.init)).args(enter);
    nsenter.arg("env").args(settings).args(command).current_dir(PathBuf::from("/"));
    Err(nsenter.exec()).context("cannot enter the host")
}
