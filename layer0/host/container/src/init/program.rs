//! The job's program: forked in a session of its own, stripped to what the job may do, executed.

use std::ffi::CString;
use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::InitConfig;
use super::lookup;
use super::stdio::Stdio;
use crate::error::plain_error;
use crate::protocol::Rlimits;
use crate::sys;

/// The running program.
pub(super) struct Program {
    pub(super) pid: i32,
}

impl Program {
    /// Starts it; returns when it was executed, or with the reason why not.
    pub(super) fn start(config: &InitConfig, stdio: Stdio) -> Result<Self, String> {
        let (mut reason, report) = io::pipe().map_err(|error| plain_error(&error))?;
        let pid = sys::fork().map_err(|error| format!("fork: {}", plain_error(&error)))?;
        if pid == 0 {
            drop(reason);
            let error = become_program(config, &stdio);
            let _ = (&report).write_all(error.as_bytes());
            sys::exit_now(127);
        }
        drop(report);
        drop(stdio);
        let mut error = String::new();
        // The pipe closes at exec.
        let _ = (&mut reason).take(4096).read_to_string(&mut error);
        if error.is_empty() {
            return Ok(Self { pid });
        }
        sys::wait_for(pid);
        Err(error)
    }

    pub(super) fn signal(&self, signal: i32) {
        // It may have ended meanwhile.
        let _ = sys::kill(self.pid, signal);
    }
}

/// Ends what the program left behind. Without a pid namespace the supervisor does it by cgroup.
pub(super) fn end_everybody() {
    if rustix::process::getpid().is_init() {
        let _ = sys::kill(-1, libc::SIGKILL);
    }
}

fn become_program(config: &InitConfig, stdio: &Stdio) -> String {
    let prepared = prepare(config, stdio);
    if let Err(error) = prepared {
        return format!("starting the program: {}", plain_error(&error));
    }
    let directory = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    if let Err(error) = rustix::process::chdir(directory) {
        return format!("chdir {directory}: {}", plain_error(&error.into()));
    }
    let Some(name) = config.args.first() else { return "exec: no command".to_owned() };
    let texts = arguments(config);
    match (lookup::find(name, &config.env), texts) {
        (Ok(path), Ok((args, env))) => {
            let error = sys::exec_path(&path, &args, &env);
            format!("exec: {name:?}: {}", plain_error(&error))
        }
        (Err(error), _) => error,
        (_, Err(error)) => format!("exec: {name:?}: {}", plain_error(&error)),
    }
}

fn prepare(config: &InitConfig, stdio: &Stdio) -> io::Result<()> {
    rustix::process::setsid()?;
    stdio.install()?;
    limit(config.rlimits)?;
    sys::reset_signals();
    // The bounding set needs CAP_SETPCAP, which may go here; the ids are changed in between,
    // because changing them away from 0 clears what is left, and needs its own two.
    config.capabilities.bound()?;
    sys::become_user(config.uid, config.gid)?;
    if config.uid == 0 {
        config.capabilities.confine_self()?;
    }
    sys::die_with_parent()
}

fn limit(limits: Rlimits) -> io::Result<()> {
    for (resource, limit) in
        [(Resource::Nofile, limits.max_fd), (Resource::Nproc, limits.max_procs)]
    {
        let Some((soft, hard)) = limit else { continue };
        // Only the host's root may go above what the supervisor itself was given.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let hard = hard.min(most);
        setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?;
    }
    Ok(())
}

fn arguments(config: &InitConfig) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let args =
        config.args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<_, _>>()?;
    let env = config.env.iter().map(|(key, value)| CString::new(format!("{key}={value}")));
    Ok((args, env.collect::<Result<_, _>>()?))
}
