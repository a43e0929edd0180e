//! Running other programs: argv arrays, and an error that shows what was run and what it said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs `argv` and returns its standard output; any exit status but 0 is an error with its messages.
pub fn output<S: AsRef<OsStr>>(argv: &[S]) -> anyhow::Result<String> {
    with_input(argv, b"")
}

/// As [`output`], with `input` on standard input.
pub fn with_input<S: AsRef<OsStr>>(argv: &[S], input: &[u8]) -> anyhow::Result<String> {
    let shown = shown(argv);
    let (program, args) = argv.split_first().context("an empty command")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let mut stdin = child.stdin.take().context("stdin was asked for")?;
    // A program that does not read its input closes it; its exit status then says what is wrong.
    drop(stdin.write_all(input));
    drop(stdin);
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{shown}: {}: {}", done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs `argv` for its effect.
pub fn run<S: AsRef<OsStr>>(argv: &[S]) -> anyhow::Result<()> {
    output(argv).map(drop)
}

fn shown<S: AsRef<OsStr>>(argv: &[S]) -> String {
    let words: Vec<_> = argv.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    words.join(" ")
}
