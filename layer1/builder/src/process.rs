//! One program of a build: whom it runs as, where its output goes, and that nothing of it is left when
//! it is over or the build is cancelled.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::config::User;
use crate::output::Output;

/// The longest line that is kept together, and the most that is kept of captured output.
const MAX_LINE: usize = 64 << 10;
const MAX_CAPTURED: usize = 1 << 20;
/// How long output may stay open after its program has ended: what holds it is in another group.
const LINGER: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(ExitStatus);

impl Ended {
    pub(crate) fn success(self) -> bool {
        self.0.success()
    }

    /// As a shell has it: 128 and the number for a signal.
    pub(crate) fn exit_code(self) -> u8 {
        use std::os::unix::process::ExitStatusExt as _;
        let code = self.0.code().or_else(|| self.0.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt as _;
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "status {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an unknown status"),
        }
    }
}

/// A program to be run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    argv: Vec<OsString>,
    folder: std::path::PathBuf,
    env: BTreeMap<String, OsString>,
    user: Option<User>,
}

impl Program {
    /// `argv` in `folder` with nothing in its environment but `env`.
    pub(crate) fn new<I>(argv: I, folder: &Path, env: BTreeMap<String, OsString>) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let argv = argv.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self { argv, folder: folder.to_owned(), env, user: None }
    }

    pub(crate) fn user(self, user: Option<User>) -> Self {
        Self { user, ..self }
    }

    /// Runs it, giving its output line by line, its errors as they come.
    pub(crate) async fn shown(&self, output: &Output) -> io::Result<Ended> {
        let mut child = self.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let lines = lines(out, |line| output.tool_line(line));
        finish(child, both(lines, bytes(err, |bytes| output.error_bytes(bytes)))).await
    }

    /// Runs it and returns its output; its errors go to the person who pushes.
    pub(crate) async fn captured(&self, output: &Output) -> io::Result<(Ended, Vec<u8>)> {
        let mut child = self.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut kept = Vec::new();
        let keep = bytes(out, |bytes| push_bounded(&mut kept, bytes));
        let ended =
            finish(child, both(keep, bytes(err, |bytes| output.error_bytes(bytes)))).await?;
        Ok((ended, kept))
    }

    /// Runs it and returns output and errors together; nothing is shown.
    pub(crate) async fn silent(&self) -> io::Result<(Ended, Vec<u8>)> {
        let mut child = self.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let kept = std::cell::RefCell::new(Vec::new());
        let push = |bytes: &[u8]| push_bounded(&mut kept.borrow_mut(), bytes);
        let ended = finish(child, both(bytes(out, push), bytes(err, push))).await?;
        Ok((ended, kept.into_inner()))
    }

    fn spawn(&self) -> io::Result<Group> {
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).env_clear().envs(&self.env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display()))
        })?;
        Ok(Group::new(child))
    }
}

/// A child and its process group, which ends with this value.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nobody may be left, which is an error to the kernel only.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl std::ops::Deref for Group {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.child
    }
}

impl std::ops::DerefMut for Group {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

/// Waits for the program while its output is read; then what it left behind ends, and what it wrote
/// is read to the end.
async fn finish(mut group: Group, reading: impl Future<Output = ()>) -> io::Result<Ended> {
    let mut reading = std::pin::pin!(reading);
    let mut is_read = false;
    let status = loop {
        tokio::select! {
            status = group.child.wait() => break status?,
            () = &mut reading, if !is_read => is_read = true,
        }
    };
    drop(group);
    if !is_read && tokio::time::timeout(LINGER, reading).await.is_err() {
        tracing::debug!("output stayed open after its program had ended");
    }
    Ok(Ended(status))
}

async fn both(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    tokio::join!(a, b);
}

/// Hands over each line without its end; what is longer than a line may be is handed over in pieces.
async fn lines(from: Option<impl AsyncRead + Unpin>, mut line: impl FnMut(&[u8])) {
    let mut waiting = Vec::new();
    bytes(from, |bytes| {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            waiting.extend_from_slice(part);
            if waiting.ends_with(b"\n") || waiting.len() >= MAX_LINE {
                line(&waiting);
                waiting.clear();
            }
        }
    })
    .await;
    if !waiting.is_empty() {
        line(&waiting);
    }
}

async fn bytes(from: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        take(&buffer[..count]);
    }
}

fn push_bounded(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_CAPTURED.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str) -> Program {
        let env = BTreeMap::from([("PATH".to_owned(), OsString::from("/usr/bin:/bin"))]);
        Program::new(["bash", "-c", script], Path::new("/"), env)
    }

    #[tokio::test]
    async fn output_and_status_come_back() {
        let (ended, text) = program("echo a; echo b >&2; exit 7").silent().await.unwrap();
        assert_eq!((ended.exit_code(), ended.to_string().as_str()), (7, "status 7"));
        assert_eq!(text.len(), 4);
        let (ended, _) = program("kill -9 $$").silent().await.unwrap();
        assert_eq!((ended.exit_code(), ended.to_string().as_str()), (137, "signal 9"));
        let (_, text) = program("echo ${HOME-none}; env | wc -l").silent().await.unwrap();
        assert!(text.starts_with(b"none\n"), "nothing of ours is inherited");
        let missing = Program::new(["/no/such"], Path::new("/"), BTreeMap::new());
        assert!(missing.silent().await.unwrap_err().to_string().contains("/no/such"));
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_it() {
        let (ended, text) = program("sleep 3600 & echo $!").silent().await.unwrap();
        assert!(ended.success());
        gone(String::from_utf8(text).unwrap().trim()).await;
    }

    #[tokio::test]
    async fn a_cancelled_program_is_gone_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script =
            format!("sleep 3600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let program = program(&script);
        let running = program.silent();
        let written = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = running => panic!("it ended by itself"),
            () = written => {}
        }
        gone(std::fs::read_to_string(&file).unwrap().trim()).await;
    }

    /// An orphan may stay a zombie until somebody reaps it.
    async fn gone(pid: &str) {
        let stat = format!("/proc/{pid}/stat");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn lines_are_handed_over_whole_and_bounded() {
        let text = format!("one\ntwo\r\n\n{}last", "x".repeat(MAX_LINE + 10));
        let mut found = Vec::new();
        lines(Some(text.as_bytes()), |line| found.push(line.to_vec())).await;
        let lengths: Vec<_> = found.iter().map(Vec::len).collect();
        assert_eq!(lengths[..3], [4, 5, 1]);
        assert!(lengths[3..].iter().all(|length| *length < 2 * MAX_LINE));
        assert_eq!(found.concat(), text.into_bytes());
    }
}
