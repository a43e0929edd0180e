//! What `script/up` refuses before it changes anything: the words, the status, and that nothing was made.
//! A toolchain that only tells its version stands in for the real one, so that a check that does not
//! refuse ends the run at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a toolchain of a version, and room for what must not be made.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn with_cargo(version: &str) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        machine.program("cargo", &format!("[ \"$1\" = --version ] && echo 'cargo {version} (0)'"));
        machine.has_free(100_000);
        machine
    }

    /// So much room on its disk, in MB, whatever the real one has.
    fn has_free(&self, free: u32) {
        self.program("df", &format!("echo header; echo disk 0 0 {free} 0% /"));
    }

    /// A program of this machine only.
    fn program(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// `script/up` with these words on a data directory that is not there.
    fn up(&self, words: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new("bash");
        command.arg(root.join("script/up")).arg("--data-dir").arg(self.data_dir()).args(words);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.dir.path().display()));
        command.env("FLYNN_CACHE", self.dir.path().join("cache")).env_remove("CARGO_TARGET_DIR");
        command
    }

    fn refuses(&self, command: &mut Command, want: &str) {
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(want), "{want:?}: {done:?}");
        assert!(done.stdout.is_empty(), "it began: {done:?}");
        assert!(!self.data_dir().exists() && !self.dir.path().join("cache").exists());
    }
}

#[test]
fn options_that_cannot_be_followed_are_refused_with_the_next_step() {
    let machine = Machine::with_cargo("1.99.0");
    for (words, want) in [
        (&["--nope"][..], "unknown option --nope"),
        (&["--domain"], "--domain needs a value"),
        (&["--domain", "a b"], "--domain a b is no domain name: give one such as flynn.localhost"),
        (&["--http-port", "x"], "--http-port x is no port: give a number from 1 to 65535"),
        (&["--https-port", "70000"], "--https-port 70000 is no port"),
        (&["--http-port", "1113"], "--http-port 1113 is a port of the platform itself"),
        (&["--http-port", "443"], "are both 443: choose two ports"),
        (&["--external-ip", "1.2.3"], "--external-ip 1.2.3 is no IPv4 address"),
        (&["--data-dir", "/etc/hostname"], "--data-dir /etc/hostname is no directory"),
    ] {
        machine.refuses(&mut machine.up(words), want);
    }
}

#[test]
fn a_platform_that_is_there_keeps_its_domain() {
    let machine = Machine::with_cargo("1.99.0");
    let there = tempfile::tempdir().unwrap();
    std::fs::write(there.path().join("up.conf"), "domain=one.localhost\n").unwrap();
    let there = there.path().to_string_lossy();
    let words = ["--data-dir", &there, "--domain", "two.localhost"];
    machine.refuses(&mut machine.up(&words), "was made with --domain one.localhost");
}

#[test]
fn a_toolchain_that_is_broken_or_too_old_is_told() {
    let old = Machine::with_cargo("1.80.1");
    old.refuses(&mut old.up(&[]), "cargo is of Rust 1.80, and 1.95 or newer is needed");
    let broken = Machine::with_cargo("1.99.0");
    broken.program("cargo", "exit 1");
    broken.refuses(&mut broken.up(&[]), "cargo does not run: install a Rust toolchain");
}

#[test]
fn whoever_is_not_root_is_told_so() {
    let machine = Machine::with_cargo("1.99.0");
    machine.program("id", "echo 1000");
    machine.refuses(&mut machine.up(&[]), "must run as root: try sudo");
}

#[test]
fn a_kernel_without_what_containers_need_is_told() {
    let machine = Machine::with_cargo("1.99.0");
    machine.program("unshare", "exit 1");
    let want =
        "this kernel cannot make links of type bridge, which the network of containers needs";
    machine.refuses(&mut machine.up(&["--external-ip", "192.0.2.1"]), want);
}

#[test]
fn a_disk_that_is_too_small_is_told_with_what_is_needed() {
    let machine = Machine::with_cargo("1.99.0");
    machine.has_free(2900);
    let want = " has 2900 MB free, and ";
    machine.refuses(&mut machine.up(&["--external-ip", "192.0.2.1"]), want);
}

#[test]
fn a_port_in_use_is_told_with_who_uses_it() {
    let machine = Machine::with_cargo("1.99.0");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let pid = std::process::id();
    let words = ["--http-port", &port, "--external-ip", "192.0.2.1"];
    let want = format!("(pid {pid}): stop it, or choose another port with --http-port");
    machine.refuses(&mut machine.up(&words), &want);
}
