//! The first process of a job: finishes its namespaces from inside, starts the program when told
//! to, reaps everything, reports how the program ended.
//!
//! It is executed by the launcher with the root of the user namespace's powers, which it gives up
//! step by step. It never talks to anything but its supervisor.

mod capabilities;
mod channel;
mod config;
mod lookup;
mod namespaces;
mod program;
mod seccomp;
mod stdio;

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

pub(crate) use capabilities::Capabilities;
pub(crate) use channel::Channel;
pub(crate) use config::{CgroupMount, FromInit, InitConfig, ToInit};

use crate::error::{SetupError, Step};
use crate::sys;
use program::Program;
use stdio::Stdio;

/// The argument that makes `flynn-init` the first process of a job; the next one is the descriptor
/// of its channel.
pub const INIT: &str = "init";

/// Exit code of an init that could not do its work (spec/host.md §5).
const FAILURE: i32 = 70;

/// Runs as the first process of a job until the program has ended.
pub fn run_init(channel_fd: i32) -> i32 {
    // SAFETY: the launcher put the channel on this number for us and nobody else uses it.
    let mut channel = Channel::new(unsafe { OwnedFd::from_raw_fd(channel_fd) });
    match serve(&mut channel) {
        Ok(()) => 0,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = channel.send(&FromInit::Failed { error: error.report() }, &[]);
            FAILURE
        }
    }
}

fn serve(channel: &mut Channel) -> Result<(), SetupError> {
    sys::die_with_parent().step("tying init to its supervisor")?;
    // The job's root user must not read or write this process through /proc.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step("hiding init")?;
    sys::close_rest_at_exec().step("closing descriptors")?;
    // As the first process of a pid namespace it is that anyway.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .step("adopting orphans")?;
    let signals = sys::signals_as_descriptor().step("taking signals")?;
    let ToInit::Config(config) = expect(channel)? else {
        return Err(SetupError::because("starting init", "no configuration"));
    };
    let root = channel.take_descriptors().pop();
    let root = root.ok_or_else(|| SetupError::because("starting init", "no root"))?;
    namespaces::finish(&config, root.as_fd())?;
    let stdio = Stdio::open(&config)?;
    rustix::thread::set_no_new_privs(true).step("setting no_new_privs")?;
    seccomp::apply(config.capabilities).step("loading the seccomp filters")?;
    channel.send(&FromInit::Ready, &stdio.supervisor_ends()).step("reporting")?;
    let Some(program) = start(channel, &config, stdio)? else { return Ok(()) };
    // It must be able to signal the program, whatever its user is.
    Capabilities::KILL.confine_self().step("giving up capabilities")?;
    watch(channel, signals.as_fd(), &program)
}

/// Waits for Resume and starts the program; `None` when it cannot be started, which is reported.
fn start(
    channel: &mut Channel,
    config: &InitConfig,
    stdio: Stdio,
) -> Result<Option<Program>, SetupError> {
    loop {
        match expect(channel)? {
            ToInit::Resume => break,
            ToInit::Signal { .. } | ToInit::Config(_) => {}
        }
    }
    match Program::start(config, stdio) {
        Ok(program) => {
            channel.send(&FromInit::Running, &[]).step("reporting")?;
            Ok(Some(program))
        }
        Err(error) => {
            channel.send(&FromInit::Failed { error }, &[]).step("reporting")?;
            Ok(None)
        }
    }
}

/// Forwards signals and reaps until the program has ended.
fn watch(
    channel: &mut Channel,
    signals: std::os::fd::BorrowedFd<'_>,
    program: &Program,
) -> Result<(), SetupError> {
    loop {
        while let Some(reaped) = sys::reap() {
            if reaped.pid == program.pid {
                let end = FromInit::Exited { code: reaped.code, signal: reaped.signal };
                channel.send(&end, &[]).step("reporting")?;
                program::end_everybody();
                return Ok(());
            }
        }
        channel.wait_or(signals).step("waiting")?;
        while let Some(signal) = sys::next_signal(signals) {
            match signal {
                libc::SIGCHLD => {}
                // Services go first; the supervisor sends the signal back when they are gone.
                libc::SIGTERM | libc::SIGINT => {
                    channel.send(&FromInit::Relay { signal }, &[]).step("reporting")?;
                }
                other => program.signal(other),
            }
        }
        while let Some(order) = channel.receive_now::<ToInit>().step("listening")? {
            match order {
                ToInit::Signal { signal } => program.signal(signal),
                ToInit::Config(_) | ToInit::Resume => {}
            }
        }
    }
}

fn expect(channel: &mut Channel) -> Result<ToInit, SetupError> {
    channel.receive().step("listening to the supervisor")
}
