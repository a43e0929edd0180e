//! `flynn-init`: the supervisor of a job (`supervise`) and the first process inside it (`init`).
//! Only the host daemon starts the one, and only the one starts the other.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let code = match (args.next().as_deref(), args.next()) {
        (Some(host_container::SUPERVISE), None) => host_container::run_supervisor(),
        (Some(host_container::INIT), Some(channel)) => match channel.parse() {
            Ok(channel) => host_container::run_init(channel),
            Err(_) => USAGE,
        },
        _ => USAGE,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Exit code of a start by hand, as of a wrong use of a command.
const USAGE: i32 = 64;
