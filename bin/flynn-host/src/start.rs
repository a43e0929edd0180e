//! `flynn-host start`: a daemon under a `watch` of its own, in the background. One that runs as it should
//! is left alone; one of other binaries or other arguments is replaced, and its jobs run on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use host_api::{HostClient, HostStatus};
use rustix::process::{Pid, Signal};

use crate::say;

/// How long a daemon may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of the log is shown when it does not start.
const LAST_LINES: usize = 20;

/// Arguments of `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Where state, layers, volumes and scratch disks are.
    #[arg(long, default_value = "/var/lib/flynn")]
    data_dir: PathBuf,
    /// More arguments of the daemon.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Returns once the daemon answers.
pub(crate) async fn run(args: StartArgs) -> anyhow::Result<()> {
    fs::create_dir_all(&args.data_dir).context("cannot make the data directory")?;
    let program = std::env::current_exe()?;
    let place = Place { pid_file: args.data_dir.join("watch.pid"), data_dir: args.data_dir };
    let flags = place.flags(args.args);
    let client = HostClient::new(&format!("http://127.0.0.1:{}", host_api::PORT))?;
    let running = client.status().await.ok();
    if let Some(status) = &running {
        place.must_own(status)?;
    }
    let watcher = place.watcher();
    if let (Some(watcher), Some(status)) = (watcher, &running)
        && runs(watcher, &program)
        && status.flags.as_deref() == Some(&flags[..])
    {
        say("the host runs already\n");
        return Ok(());
    }
    // The watcher first: it would start its daemon again.
    for pid in watcher.into_iter().chain(running.and_then(|status| pid_of(status.pid))) {
        end(pid).await?;
    }
    let mut child = place.spawn(&program, &flags)?;
    place.until_it_answers(&client, &mut child).await
}

/// Whether the process runs this very file.
fn runs(pid: Pid, program: &Path) -> bool {
    fs::read_link(exe(pid)).is_ok_and(|found| found == program)
}

fn exe(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", pid.as_raw_nonzero()))
}

fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Asks a process to end and waits until it has; jobs of a daemon run on.
async fn end(pid: Pid) -> anyhow::Result<()> {
    let give_up = Instant::now() + PATIENCE;
    let mut asked = false;
    while exe(pid).read_link().is_ok() {
        if !asked {
            rustix::process::kill_process(pid, Signal::TERM).context("cannot end the daemon")?;
            asked = true;
        }
        if Instant::now() >= give_up {
            bail!("process {} does not end: see what it does, or kill it", pid.as_raw_nonzero());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The folder a daemon has to itself.
struct Place {
    data_dir: PathBuf,
    pid_file: PathBuf,
}

impl Place {
    fn flags(&self, more: Vec<String>) -> Vec<String> {
        let own = ["--data-dir".to_owned(), self.data_dir.to_string_lossy().into_owned()];
        own.into_iter().chain(more).collect()
    }

    /// The watcher of before, if it still runs. Its number may be another program's by now.
    fn watcher(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        let pid = pid_of(text.trim().parse().ok()?)?;
        let program = fs::read_link(exe(pid)).ok()?;
        program.starts_with(self.data_dir.join("bin")).then_some(pid)
    }

    /// A daemon of another folder is somebody else's.
    fn must_own(&self, status: &HostStatus) -> anyhow::Result<()> {
        let flags = status.flags.iter().flatten();
        let mut folder = flags.skip_while(|flag| *flag != "--data-dir").skip(1);
        let folder = folder.next().map_or("/var/lib/flynn", String::as_str);
        if Path::new(folder) == self.data_dir {
            return Ok(());
        }
        bail!("a host with the data directory {folder} runs on this machine: stop it first");
    }

    /// Starts `watch` in a session of its own, so that it stays when the caller's terminal goes. The
    /// program `setsid` becomes it, under the same number.
    fn spawn(&self, program: &Path, flags: &[String]) -> anyhow::Result<Child> {
        let log = self.data_dir.join("flynn-host.log");
        let open = || File::options().create(true).append(true).open(&log);
        let mut command = Command::new("setsid");
        command
            .arg(program)
            .args(["watch", "--"])
            .args(flags)
            .current_dir("/")
            .stdin(Stdio::null());
        command.stdout(open().context("cannot open the log")?).stderr(open()?);
        let child = command.spawn().context("cannot start the watcher")?;
        fs::write(&self.pid_file, format!("{}\n", child.id()))?;
        Ok(child)
    }

    async fn until_it_answers(&self, client: &HostClient, child: &mut Child) -> anyhow::Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while client.status().await.is_err() {
            if child.try_wait()?.is_some() || Instant::now() >= give_up {
                bail!("the daemon does not answer; it said last:\n{}", self.last_words());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read(self.data_dir.join("flynn-host.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> Place {
        Place { data_dir: dir.to_owned(), pid_file: dir.join("watch.pid") }
    }

    fn status(flags: &[&str]) -> HostStatus {
        let flags = serde_json::json!(flags);
        let text = serde_json::json!({
            "id": "host1", "tags": null, "pid": 1, "url": "", "version": "", "flags": flags});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_host_of_another_folder_is_left_alone() {
        let place = place(Path::new("/var/lib/flynn"));
        place.must_own(&status(&[])).unwrap();
        place.must_own(&status(&["--id", "a", "--data-dir", "/var/lib/flynn"])).unwrap();
        let other = place.must_own(&status(&["--data-dir", "/srv/flynn"])).unwrap_err();
        assert!(other.to_string().contains("/srv/flynn"), "{other}");
    }

    #[test]
    fn a_number_that_is_another_programs_now_is_no_watcher() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        assert!(place.watcher().is_none());
        fs::write(&place.pid_file, format!("{}\n", std::process::id())).unwrap();
        assert!(place.watcher().is_none());
    }
}
