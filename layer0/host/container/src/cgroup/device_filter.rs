//! Which devices a job may open: as lines for the v1 controller, as a small BPF program on v2.

use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::container::STANDARD_DEVICES;
use crate::protocol::{Device, DeviceKind};

/// One allowed device or family of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: String,
}

/// The rules of a job: what its `/dev` holds, terminals, and its own list.
pub(crate) fn rules(extra: &[Device]) -> Vec<DeviceRule> {
    let char_device = |major, minor, access: &str| DeviceRule {
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        access: access.to_owned(),
    };
    let standard =
        STANDARD_DEVICES.iter().map(|(_, major, minor)| char_device(*major, Some(*minor), "rwm"));
    let terminals = [
        char_device(5, Some(1), "rwm"),
        char_device(5, Some(2), "rwm"),
        char_device(136, None, "rwm"),
    ];
    let own = extra.iter().map(|device| DeviceRule {
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        access: device.access.clone(),
    });
    standard.chain(terminals).chain(own).collect()
}

impl fmt::Display for DeviceRule {
    /// As `devices.allow` wants it: `c 136:* rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// Lets the group at `dir` open only what `rules` say. The filter lives as long as the group.
pub(super) fn attach(dir: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let group = File::open(dir)?;
    let program = load(&program(rules))?;
    let attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    bpf(BPF_PROG_ATTACH, &attr).map(drop)
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

#[repr(C)]
struct LoadAttr {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

const fn instruction(code: u8, dst: u8, src: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: dst | (src << 4), offset, value }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Registers from the kernel's `{access << 16 | kind, major, minor}`, then one block per rule that
/// falls through to the next when it does not match.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut all = vec![
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        all.extend(block(rule));
    }
    all.extend([instruction(MOVE, ANSWER, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    all
}

fn block(rule: &DeviceRule) -> Vec<Instruction> {
    let kind = match rule.kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    };
    let allowed = rule.access.chars().fold(0, |mask, letter| {
        mask | match letter {
            'm' => ACCESS_MKNOD,
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            _ => 0,
        }
    });
    let mut tests = vec![(KIND, kind)];
    tests.extend(rule.major.map(|major| (MAJOR, major as i32)));
    tests.extend(rule.minor.map(|minor| (MINOR, minor as i32)));
    let mut block = vec![
        instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0),
        instruction(AND, SCRATCH, 0, 0, ACCESS_ALL & !allowed),
    ];
    tests.push((SCRATCH, 0));
    let mut left = tests.len() as i16;
    for (register, value) in tests {
        left -= 1;
        // Over the remaining tests and the two instructions that say yes.
        block.push(instruction(JUMP_NOT_EQUAL, register, 0, left + 2, value));
    }
    block.extend([instruction(MOVE, ANSWER, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    block
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"BSD";
    let attr = LoadAttr {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attr)?;
    // SAFETY: the kernel gave us a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a plain structure valid for its size, and what it points to outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr, mem::size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_the_form_of_the_v1_files() {
        let lines: Vec<_> = rules(&[Device {
            path: "/dev/fuse".to_owned(),
            kind: DeviceKind::Char,
            major: Some(10),
            minor: None,
            access: "rw".to_owned(),
            file_mode: 0,
            uid: 0,
            gid: 0,
        }])
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(lines[0], "c 1:3 rwm");
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
        assert_eq!(lines.last().unwrap(), "c 10:* rw");
    }

    #[test]
    fn the_program_lets_through_what_the_rules_say() {
        load(&program(&rules(&[]))).unwrap();
        let Some(unified) = crate::cgroup::Cgroups::detect().unwrap().unified else { return };
        let dir = unified.join(format!("flynn-t-container-devices-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let allowed = DeviceRule { access: "r".to_owned(), ..rules(&[])[1].clone() };
        attach(&dir, &[allowed]).unwrap();
        let script = r#"echo $$ >"$0/cgroup.procs"
            (head -c1 </dev/zero) >&1 && echo read; (: >/dev/zero) 2>&1 || echo not written
            (: </dev/full) 2>&1 || echo not opened"#;
        let output = std::process::Command::new("sh").arg("-c").arg(script).arg(&dir).output();
        std::fs::remove_dir(&dir).unwrap();
        let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        for want in ["read", "not written", "not opened"] {
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
