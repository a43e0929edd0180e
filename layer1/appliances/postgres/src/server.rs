//! One PostgreSQL server process: its data directory, its start, its end.
//!
//! The data directory belongs to this job alone (volumes are exclusive), and what an earlier server of
//! this driver left running is ended first, so a lock file found at start is of nobody who still runs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::accounts::Account;
use crate::orphans;
use crate::settings::Settings;

/// How long the server has for a fast shutdown, and then for an immediate one.
const STOP_GRACE: Duration = Duration::from_secs(300);

/// Where a server's programs and files are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Directory of `initdb` and `postgres`.
    pub bin: PathBuf,
    /// Data directory; made when it does not exist.
    pub data: PathBuf,
    /// Who runs the server.
    pub account: Account,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No PostgreSQL in the image.
    #[error("no PostgreSQL below /usr/lib/postgresql: is its package in the image?")]
    NotInstalled,
    /// A file operation failed.
    #[error("cannot {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// An earlier server is not entirely gone.
    #[error("what an earlier server left behind is still there")]
    Orphans(#[source] std::io::Error),
    /// `initdb` failed.
    #[error("initdb failed ({status}): {said}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
}

/// The newest PostgreSQL of a Debian system.
pub(crate) fn installed() -> Result<PathBuf, ServerError> {
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| ServerError::NotInstalled)?;
    let numbers = versions.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let newest: u32 = numbers.max().ok_or(ServerError::NotInstalled)?;
    Ok(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Prepares the data directory (initdb on first use) and starts the server. It is not yet
    /// answering when this returns.
    pub(crate) async fn start(place: &Place, settings: &Settings) -> Result<Self, ServerError> {
        orphans::end_all().await.map_err(ServerError::Orphans)?;
        make_owned(Path::new(&settings.socket_dir), 0o750, place.account)?;
        if !place.data.join("PG_VERSION").exists() {
            initdb(place).await?;
        }
        write_owned(place, "postgresql.conf", &settings.postgresql_conf())?;
        write_owned(place, "pg_hba.conf", Settings::pg_hba_conf())?;
        remove_if_there(&place.data.join("postmaster.pid"))?;
        let program = place.bin.join("postgres");
        let mut command = as_account(&program, place.account);
        command.arg("-D").arg(&place.data).stdin(Stdio::null()).stdout(Stdio::inherit());
        let child = command.spawn().map_err(|source| start_error(&program, source))?;
        Ok(Self { child })
    }

    /// Waits for the server to end by itself.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Stops the server: fast, then immediate, then by force. Returns once it has ended.
    pub(crate) async fn stop(&mut self) {
        for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
            let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
            else {
                return;
            };
            // It fails only when the process has ended, which the wait then sees.
            let _ended = kill_process(pid, signal);
            if tokio::time::timeout(STOP_GRACE, self.child.wait()).await.is_ok() {
                return;
            }
        }
    }
}

fn make_owned(path: &Path, mode: u32, account: Account) -> Result<(), ServerError> {
    fs::create_dir_all(path).map_err(file_error("make", path))?;
    chown(path, Some(account.uid), Some(account.gid)).map_err(file_error("give away", path))?;
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).map_err(file_error("protect", path))
}

/// Makes the data directory beside its place and moves it there in one step: a power cut leaves all
/// of it or nothing.
async fn initdb(place: &Place) -> Result<(), ServerError> {
    let staged = place.data.with_extension("new");
    remove_tree_if_there(&staged)?;
    make_owned(&staged, 0o700, place.account)?;
    let program = place.bin.join("initdb");
    let mut command = as_account(&program, place.account);
    command.args(["--username=postgres", "--encoding=UTF8", "--auth-local=trust"]);
    command.args(["--auth-host=scram-sha-256", "--data-checksums", "--locale=C.UTF-8"]);
    command.arg("--pgdata").arg(&staged);
    let done = command.output().await.map_err(|source| start_error(&program, source))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(ServerError::Initdb { status: done.status, said });
    }
    remove_tree_if_there(&place.data)?;
    fs::rename(&staged, &place.data).map_err(file_error("move into place", &staged))?;
    let parent = place.data.parent().unwrap_or(Path::new("/"));
    let directory = fs::File::open(parent).map_err(file_error("open", parent))?;
    directory.sync_all().map_err(file_error("make durable", parent))
}

fn as_account(program: &Path, account: Account) -> Command {
    let mut command = Command::new(program);
    command.uid(account.uid).gid(account.gid).current_dir("/");
    command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    command.kill_on_drop(true);
    let with_driver = || rustix::process::set_parent_process_death_signal(Some(Signal::QUIT));
    // SAFETY: the closure makes one system call and allocates nothing. A server must not outlive its
    // driver: the next one would find the data directory in use.
    unsafe { command.pre_exec(move || with_driver().map_err(std::io::Error::from)) };
    command
}

/// Writes a file of the data directory that only the server's account can read.
fn write_owned(place: &Place, name: &str, text: &str) -> Result<(), ServerError> {
    let path = place.data.join(name);
    let part = place.data.join(format!("{name}.part"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&part).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        chown(&part, Some(place.account.uid), Some(place.account.gid))?;
        fs::rename(&part, &path)
    });
    written.map_err(file_error("write", &path))
}

fn remove_if_there(path: &Path) -> Result<(), ServerError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error("remove", path)(source))
        }
        _ => Ok(()),
    }
}

fn remove_tree_if_there(path: &Path) -> Result<(), ServerError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error("remove", path)(source))
        }
        _ => Ok(()),
    }
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServerError {
    let path = path.display().to_string();
    move |source| ServerError::File { doing, path, source }
}

fn start_error(program: &Path, source: std::io::Error) -> ServerError {
    ServerError::Start { program: program.display().to_string(), source }
}
