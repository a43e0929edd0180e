//! Which devices a job may open: as lines for the v1 controller, as a small BPF program on v2.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use kit_bpf::Register::{R0, R1, R2, R3, R4, R5, R6};
use kit_bpf::{Assembler, Instruction, Kind, Program, Register, Width};

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
    Ok(load(rules)?.guard_devices(&group)?)
}

fn load(rules: &[DeviceRule]) -> io::Result<Program> {
    Ok(Program::load(Kind::Devices, "flynn_devices", &program(rules)?)?)
}

const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

const ACCESS: Register = R2;
const KIND: Register = R3;
const MAJOR: Register = R4;
const MINOR: Register = R5;
const SCRATCH: Register = R6;

/// Registers from the kernel's `{access << 16 | kind, major, minor}`, then one block per rule that
/// falls through to the next when it does not match.
fn program(rules: &[DeviceRule]) -> io::Result<Vec<Instruction>> {
    let mut code = Assembler::new();
    code.load(Width::Word, ACCESS, R1, 0);
    code.copy(KIND, ACCESS);
    code.and(KIND, 0xffff);
    code.shift_right(ACCESS, 16);
    code.load(Width::Word, MAJOR, R1, 4);
    code.load(Width::Word, MINOR, R1, 8);
    for rule in rules {
        block(&mut code, rule);
    }
    code.set(R0, 0);
    code.exit();
    code.finish().map_err(io::Error::other)
}

fn block(code: &mut Assembler, rule: &DeviceRule) {
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
    let next = code.label();
    code.copy(SCRATCH, ACCESS);
    code.and(SCRATCH, ACCESS_ALL & !allowed);
    code.if_not_equal(KIND, kind, next);
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            code.if_not_equal(register, number as i32, next);
        }
    }
    code.if_not_equal(SCRATCH, 0, next);
    code.set(R0, 1);
    code.exit();
    code.place(next);
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
        load(&rules(&[])).unwrap();
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
