//! A Debian 12 guest (kernel 6.1, systemd, cgroup v2 only) in qemu: what the promised platform does
//! where the development machine's kernel differs.
//!
//! The guest's disk is made once and cached. A run boots it from a throw-away overlay with a second
//! disk that holds the programs to run; a unit in the guest runs them in turn, their output goes to
//! the serial console, and the guest powers off. Emulated (TCG), so slow: about 6 s to boot.

use std::fmt::Write as _;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::command;

const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,e2fsprogs,squashfs-tools,\
                        erofs-utils,iproute2,nftables,procps,kmod,util-linux,mount";
/// Raised when the way the guest is made changes.
const RECIPE: u32 = 2;
const LIMIT: Duration = Duration::from_secs(900);
const BEGIN: &str = "flynn-guest: begin ";
const END: &str = "flynn-guest: end ";

/// What a guest is given to run.
#[derive(Debug)]
pub struct Load {
    /// Directory of built programs.
    pub bin: PathBuf,
    /// Files of that directory which the programs look for beside them.
    pub beside: Vec<PathBuf>,
    /// Static programs, run in this order.
    pub programs: Vec<PathBuf>,
}

/// Boots the guest and runs the programs in it; fails when one of them does.
pub fn run(cache: &Path, load: &Load) -> anyhow::Result<ExitCode> {
    let disk = disk(cache)?;
    let scratch = cache.join(format!("guest-run-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let result =
        payload(&scratch, load).and_then(|payload| boot(&disk, &payload, load.programs.len()));
    drop(std::fs::remove_dir_all(&scratch));
    result
}

/// Makes the guest's disk unless it is cached.
pub fn disk(cache: &Path) -> anyhow::Result<PathBuf> {
    let key = hex::encode(Sha256::digest(format!("{RECIPE} {PACKAGES} {UNIT}").as_bytes()));
    let dir = cache.join("guest").join(&key[..16]);
    if dir.join("complete").exists() {
        return Ok(dir);
    }
    let staged = cache.join("guest").join(format!("part-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&staged));
    std::fs::create_dir_all(&staged)?;
    make_disk(&staged)?;
    std::fs::write(staged.join("complete"), "")?;
    drop(std::fs::remove_dir_all(&dir));
    std::fs::rename(&staged, &dir)?;
    Ok(dir)
}

/// Runs the programs of the second disk one after the other, then powers off.
const UNIT: &str = "[Unit]\nDescription=Runs what the host brought\nAfter=multi-user.target\n\
[Service]\nType=oneshot\nStandardOutput=journal+console\nStandardError=journal+console\n\
Environment=TMPDIR=/var/tmp FLYNN_GUEST=1 RUST_BACKTRACE=0\nExecStart=/bin/sh /payload/run\n\
ExecStopPost=/bin/systemctl poweroff --force\nDelegate=yes\n\
[Install]\nWantedBy=multi-user.target\n";

fn make_disk(staged: &Path) -> anyhow::Result<()> {
    let root = staged.join("root");
    command::run(&[
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        "--quiet",
        "--format=directory",
        &format!("--include={PACKAGES}"),
        "--aptopt=Apt::Install-Recommends \"false\"",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "bookworm",
        &root.to_string_lossy(),
        &crate::images::mirror()?,
    ])?;
    std::fs::write(root.join("etc/systemd/system/flynn-guest.service"), UNIT)?;
    std::fs::create_dir_all(root.join("payload"))?;
    std::fs::write(
        root.join("etc/fstab"),
        "/dev/vda / ext4 defaults 0 1\n/dev/vdb /payload ext4 ro 0 0\n",
    )?;
    std::fs::write(root.join("etc/hostname"), "guest\n")?;
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost guest\n")?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    let link = wants.join("flynn-guest.service");
    std::os::unix::fs::symlink("/etc/systemd/system/flynn-guest.service", link)?;
    for (prefix, name) in [("vmlinuz-", "kernel"), ("initrd.img-", "initrd")] {
        let boot = std::fs::read_dir(root.join("boot"))?.flatten().map(|entry| entry.path());
        let found = boot.into_iter().find(|path| {
            path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(prefix))
        });
        std::fs::copy(
            found.with_context(|| format!("no {prefix}* in the guest"))?,
            staged.join(name),
        )?;
    }
    let image = staged.join("disk.img");
    command::run(&["truncate", "-s", "4G", &image.to_string_lossy()])?;
    let (image, root) = (image.to_string_lossy().into_owned(), root.to_string_lossy().into_owned());
    command::run(&["mkfs.ext4", "-q", "-F", "-d", &root, &image])?;
    Ok(std::fs::remove_dir_all(root)?)
}

/// The second disk: the programs and the script that runs them.
fn payload(scratch: &Path, load: &Load) -> anyhow::Result<PathBuf> {
    let root = scratch.join("payload");
    std::fs::create_dir_all(&root)?;
    for name in &load.beside {
        let target = root.join(name);
        std::fs::create_dir_all(target.parent().unwrap_or(&root))?;
        std::fs::copy(load.bin.join(name), target).with_context(|| name.display().to_string())?;
    }
    let mut script = String::from("mount -o remount,rw / ; cd /var/tmp\n");
    for (number, program) in load.programs.iter().enumerate() {
        std::fs::copy(program, root.join(format!("program-{number}")))
            .with_context(|| program.display().to_string())?;
        writeln!(script, "echo '{BEGIN}{number}'; /payload/program-{number} --test-threads=1")?;
        writeln!(script, "echo \"{END}{number} $?\"")?;
    }
    std::fs::write(root.join("run"), script)?;
    let image = scratch.join("payload.img");
    command::run(&["truncate", "-s", "1G", &image.to_string_lossy()])?;
    command::run(&[
        "mkfs.ext4",
        "-q",
        "-F",
        "-d",
        &root.to_string_lossy(),
        &image.to_string_lossy(),
    ])?;
    Ok(image)
}

fn boot(disk: &Path, payload: &Path, programs: usize) -> anyhow::Result<ExitCode> {
    let mut guest = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nographic"])
        .args([
            "-no-reboot",
            "-nic",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-display",
            "none",
        ])
        .args(["-append", "root=/dev/vda rw console=ttyS0 quiet panic=1 systemd.show_status=0"])
        .arg("-kernel")
        .arg(disk.join("kernel"))
        .arg("-initrd")
        .arg(disk.join("initrd"))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,snapshot=on", disk.join("disk.img").display()))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,readonly=on", payload.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let console = guest.stdout.take().context("its output was asked for")?;
    let killer = watchdog(guest.id());
    let ended = follow(BufReader::new(console), programs);
    drop(guest.kill());
    drop(guest.wait());
    drop(killer);
    ended
}

/// Ends the guest when it takes too long; dropping the sender calls it off.
fn watchdog(pid: u32) -> std::sync::mpsc::SyncSender<()> {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::spawn(move || {
        let started = Instant::now();
        let called_off = receiver.recv_timeout(LIMIT).is_err() && started.elapsed() < LIMIT;
        if let (false, Ok(pid)) = (called_off, i32::try_from(pid)) {
            // SAFETY: kill takes numbers only; the process is our child and not yet waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    });
    sender
}

/// Shows the console and notes how each program ended.
#[expect(clippy::print_stdout, reason = "the guest's console is what one wants to see")]
fn follow(console: impl std::io::BufRead, programs: usize) -> anyhow::Result<ExitCode> {
    let mut ended = Vec::new();
    for line in console.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
        println!("{line}");
        if let Some((_, end)) = line.split_once(END) {
            ended.push(end.split(' ').nth(1) == Some("0"));
        }
    }
    if ended.len() < programs {
        bail!("the guest ended after {} of {programs} programs", ended.len());
    }
    Ok(if ended.iter().all(|ok| *ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
