//! Small programs that jobs of the tests run, chosen by the first argument. See README.md.
#![expect(clippy::print_stdout, reason = "what these programs are for")]

mod confined;
mod network;
mod process;
mod sha1;
mod webapp;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match name.as_str() {
        "hello" => network::hello(),
        "webapp" => webapp::run(),
        "ping" => network::http(|_| "OK".to_owned()),
        "page" => network::http(|_| "x".repeat(1024)),
        "slow" => network::slow(),
        "echoer" => network::echo(),
        "dial" => network::dial(&rest),
        "printer" => process::print_for_ever("I like to print"),
        "omni" => process::print_for_ever("I am everywhere"),
        "crasher" => process::crash_on_term(),
        "signal" => process::say_signal(),
        "oom" => process::take_memory(),
        "limits" => process::limits(),
        "lines" => process::lines(&rest),
        "paced" => process::paced(&rest),
        "stamp" => process::stamp(),
        "cat" => process::cat(),
        "write" => process::write(&rest),
        "read" => process::read(&rest),
        "fork" => process::fork_bomb(),
        "fill" => process::fill_disk(&rest),
        "probe" => confined::probe(),
        "status" => confined::status(),
        other => {
            println!("no such program: {other:?}");
            ExitCode::from(64)
        }
    }
}
