//! A place where tests may do what they like: mount, network and process namespaces of their own.
//!
//! The caller stays outside. It starts one child whose first process is the *init* of a new process
//! namespace; when that init ends, for whatever reason, the kernel ends every process in it, and with
//! them every mount and network device. What the kernel does not end (cgroup directories, the state
//! directory) the caller sweeps afterwards; a run that was itself killed is swept by the next one.
//!
//! The way out is `slirp4netns`: user-space NAT from the sandbox to the outside. The root network
//! namespace is never changed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{command, sweep};

/// Set inside: the directory for everything a test writes; removed afterwards.
pub const STATE_ENV: &str = "FLYNN_SANDBOX";
/// Set inside: what names of cgroups must begin with.
pub const PREFIX_ENV: &str = "FLYNN_CGROUP_PREFIX";
/// The file in the state directory with the number of the sandbox's init, as those outside see it.
pub const INIT_PID: &str = "init.pid";
/// How many seconds the command may take, where [`LIMIT`] does not fit.
pub const LIMIT_ENV: &str = "FLYNN_SANDBOX_LIMIT";
/// A command that takes longer hangs: the longest suite takes a fraction of this on a busy machine.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// The exit status of a command that hangs, as timeout(1) has it.
const HANGS: u8 = 124;
/// Set for the process that becomes the sandbox's init.
const STAGE_ENV: &str = "FLYNN_SANDBOX_STAGE";

/// Runs `argv` in a sandbox and passes its exit status on.
pub fn run(argv: &[OsString]) -> anyhow::Result<ExitCode> {
    if let Some(stage) = std::env::var_os(STAGE_ENV) {
        return if stage == "outer" { become_init(argv) } else { init(argv) };
    }
    let limit = limit(std::env::var(LIMIT_ENV).ok().as_deref())?;
    sweep::abandoned()?;
    let id = std::process::id();
    let state = sweep::state_root().join(id.to_string());
    std::fs::create_dir_all(state.join("tmp")).context("cannot make the state directory")?;
    let prefix = format!("{}{id}", sweep::CGROUP_PREFIX);
    let result = run_child(argv, &state, &prefix, limit);
    sweep::run_of(&state, &prefix)?;
    result
}

fn limit(text: Option<&str>) -> anyhow::Result<Duration> {
    let Some(text) = text else { return Ok(LIMIT) };
    let seconds = text.parse();
    Ok(Duration::from_secs(seconds.with_context(|| format!("{LIMIT_ENV}={text:?} is no number"))?))
}

fn run_child(
    argv: &[OsString],
    state: &Path,
    prefix: &str,
    limit: Duration,
) -> anyhow::Result<ExitCode> {
    let ready = state.join("namespaces-ready");
    let online = state.join("online");
    let mut child = Command::new(std::env::current_exe()?)
        .arg("sandbox")
        .args(argv)
        .env(STAGE_ENV, "outer")
        .env(STATE_ENV, state)
        .env(PREFIX_ENV, prefix)
        .env("TMPDIR", state.join("tmp"))
        .spawn()?;
    let mut slirp = None;
    let result = (|| {
        wait_for(&ready, &mut child, Duration::from_secs(60))?;
        slirp = start_slirp(child.id(), state)?;
        std::fs::write(&online, "")?;
        wait_at_most(&mut child, limit)
    })();
    drop(child.kill());
    drop(child.wait());
    if let Some(mut slirp) = slirp {
        drop(slirp.kill());
        drop(slirp.wait());
    }
    let ended =
        result.map_err(|error: anyhow::Error| error.context("the sandbox did not start"))?;
    Ok(match ended {
        Some(status) => exit_code(status),
        None => {
            complain(argv, limit);
            ExitCode::from(HANGS)
        }
    })
}

fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(u8::try_from(status.code().unwrap_or(101)).unwrap_or(101))
}

/// How a child ended; none when it does not in time.
fn wait_at_most(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

#[expect(clippy::print_stderr, reason = "why a run was ended")]
fn complain(argv: &[OsString], limit: Duration) {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    eprintln!(
        "sandbox: {} ran longer than {} s and was ended; {LIMIT_ENV}=SECONDS allows more",
        words.join(" "),
        limit.as_secs()
    );
}

/// Joins the child's network namespace to the outside. Without the program there is no way out,
/// which is enough for everything but builds.
fn start_slirp(pid: u32, state: &Path) -> anyhow::Result<Option<Child>> {
    let log = std::fs::File::create(state.join("slirp.log"))?;
    let started = Command::new("slirp4netns")
        .args(["--configure", "--mtu=65520", "--disable-host-loopback"])
        .arg(pid.to_string())
        .arg("tap0")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    match started {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot start slirp4netns"),
    }
}

fn wait_for(file: &Path, child: &mut Child, limit: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while !file.exists() {
        if let Some(status) = child.try_wait()? {
            bail!("ended early: {status}");
        }
        if started.elapsed() > limit {
            bail!("{} did not appear within {limit:?}", file.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// First stage: leaves the caller's namespaces and starts the init. Stays as the init's parent,
/// because a process namespace begins with the first child.
fn become_init(argv: &[OsString]) -> anyhow::Result<ExitCode> {
    die_with_parent()?;
    unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
    command::run(&["mount", "--make-rprivate", "/"])?;
    // Last, because the next child becomes the init of the new process namespace.
    unshare(libc::CLONE_NEWPID)?;
    let mut init = Command::new(std::env::current_exe()?)
        .arg("sandbox")
        .args(argv)
        .env(STAGE_ENV, "init")
        .spawn()?;
    let state = PathBuf::from(std::env::var_os(STATE_ENV).context("no state directory")?);
    std::fs::write(state.join(INIT_PID), init.id().to_string())?;
    Ok(exit_code(init.wait()?))
}

pub(crate) fn unshare(flags: libc::c_int) -> anyhow::Result<()> {
    // SAFETY: unshare takes flags only; this process is single threaded.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(std::io::Error::last_os_error())
            .context("cannot make namespaces (are you root?)");
    }
    Ok(())
}

/// Second stage: the init of the sandbox. Prepares it, starts the command, reaps.
fn init(argv: &[OsString]) -> anyhow::Result<ExitCode> {
    die_with_parent()?;
    let state = PathBuf::from(std::env::var_os(STATE_ENV).context("no state directory")?);
    mount_private_views()?;
    command::run(&["ip", "link", "set", "lo", "up"])?;
    std::fs::write(state.join("namespaces-ready"), "")?;
    wait_until_online(&state)?;
    let (program, args) = argv.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(args).env_remove(STAGE_ENV);
    command.process_group(0);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    reap_until(libc::pid_t::try_from(child.id())?)
}

/// A /proc of the new process namespace, a place for named network namespaces, and the resolver of
/// the sandbox's network.
fn mount_private_views() -> anyhow::Result<()> {
    command::run(&["mount", "-t", "proc", "proc", "/proc"])?;
    std::fs::create_dir_all("/run/netns")?;
    command::run(&["mount", "-t", "tmpfs", "tmpfs", "/run/netns"])?;
    command::run(&["mount", "--make-private", "/run/netns"])?;
    Ok(())
}

fn wait_until_online(state: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    while !state.join("online").exists() {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("the sandbox's caller went away");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits for every child, as an init must, until `main` has ended (-1: for ever).
pub(crate) fn reap_until(main: libc::pid_t) -> anyhow::Result<ExitCode> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == -1 {
            let error = std::io::Error::last_os_error();
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            if error.raw_os_error() == Some(libc::ECHILD) {
                wait_for_a_signal();
                continue;
            }
            return Err(error).context("waiting for the sandbox's command");
        }
        if pid == main {
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 101 };
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(101)));
        }
    }
}

/// An init without children: sleeps until one of its namespace's orphans ends.
fn wait_for_a_signal() {
    std::thread::sleep(Duration::from_millis(50));
}

pub(crate) fn die_with_parent() -> anyhow::Result<()> {
    // SAFETY: prctl with these arguments only sets a flag of this process.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot ask to end with the parent");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_noticed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let ended = wait_at_most(&mut child, Duration::from_millis(100)).unwrap();
        child.kill().unwrap();
        assert_eq!(ended, None);
        let ended = wait_at_most(&mut child, LIMIT).unwrap();
        assert_eq!(ended.map(|status| status.code()), Some(None));
    }

    #[test]
    fn the_limit_is_a_number_of_seconds() {
        assert_eq!(limit(None).unwrap(), LIMIT);
        assert_eq!(limit(Some("60")).unwrap(), Duration::from_secs(60));
        assert!(limit(Some("soon")).is_err());
    }
}
