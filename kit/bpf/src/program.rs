//! Loaded programs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::assembler::Instruction;
use crate::{BpfError, bpf};

const LOAD: i32 = 5;
const ATTACH: i32 = 8;
const TEST_RUN: i32 = 10;
const CGROUP_DEVICE: u32 = 6;
/// What the verifier may write.
const LOG_SIZE: usize = 64 << 10;
/// How much of its end is told.
const LOG_TOLD: usize = 600;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Decides about packets of a link (`BPF_PROG_TYPE_SCHED_CLS`).
    Packets = 3,
    /// Decides which devices a control group opens (`BPF_PROG_TYPE_CGROUP_DEVICE`).
    Devices = 15,
}

/// A program the kernel has taken. It lives as long as this value or what it is attached to.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct RunAttr {
    program_fd: u32,
    answer: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

impl Program {
    /// Loads a program under a name that tools show, of at most 15 letters, digits and underscores.
    pub fn load(kind: Kind, name: &str, code: &[Instruction]) -> Result<Self, BpfError> {
        // What the kernel asks of programs that use its routing table. Our programs are ours: whoever wants them
        // under the GPL instead of the project's licence may have them so.
        let license = c"Dual BSD/GPL";
        let mut in_kernel = [0; 16];
        for (to, from) in in_kernel[..15].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let mut attr = LoadAttr {
            kind: kind as u32,
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: in_kernel,
        };
        let fd = match bpf("load a program", LOAD, &mut attr) {
            // The verifier does not like it: once more, to hear why.
            Err(BpfError::Kernel { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) =>
            {
                let mut log = vec![0_u8; LOG_SIZE];
                (attr.log_level, attr.log_size) = (1, LOG_SIZE as u32);
                attr.log = log.as_mut_ptr() as u64;
                bpf("load a program", LOAD, &mut attr).map_err(|error| refused(error, &log))?
            }
            other => other?,
        };
        // SAFETY: the kernel gave us a fresh descriptor.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Has a program of [`Kind::Devices`] decide for the control group (v2) whose directory is `group`, as
    /// long as the group lives.
    pub fn guard_devices(&self, group: &File) -> Result<(), BpfError> {
        let mut attr = AttachAttr {
            target_fd: group.as_raw_fd() as u32,
            program_fd: self.fd.as_raw_fd() as u32,
            attach_type: CGROUP_DEVICE,
            flags: 0,
        };
        bpf("attach a program to a control group", ATTACH, &mut attr).map(drop)
    }

    /// Runs a program of [`Kind::Packets`] once, on one Ethernet frame that came over link 1 (loopback): its
    /// answer, and the frame as the program left it.
    pub fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>), BpfError> {
        // Headers may grow.
        let mut out = vec![0; frame.len() + 256];
        let mut attr = RunAttr {
            program_fd: self.fd.as_raw_fd() as u32,
            answer: 0,
            size_in: frame.len() as u32,
            size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat: 1,
            duration: 0,
            context_size_in: 0,
            context_size_out: 0,
            context_in: 0,
            context_out: 0,
        };
        bpf("run a program", TEST_RUN, &mut attr)?;
        out.truncate(attr.size_out as usize);
        Ok((attr.answer, out))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the verifier wrote, if it wrote something.
fn refused(error: BpfError, log: &[u8]) -> BpfError {
    let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..length]);
    let text = text.trim();
    if text.is_empty() {
        return error;
    }
    let begin = text.char_indices().rev().nth(LOG_TOLD).map_or(0, |(at, _)| at);
    BpfError::Refused { log: text[begin..].replace('\n', "; ") }
}

impl From<BpfError> for io::Error {
    fn from(error: BpfError) -> Self {
        match error {
            BpfError::Kernel { action, source } => {
                Self::new(source.kind(), format!("cannot {action}: {source}"))
            }
            BpfError::Refused { .. } => Self::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Register::{R0, R1, R2, R3, R10};
    use crate::{Assembler, Helper, Map, Width};

    #[test]
    fn a_program_finds_what_a_map_holds() {
        let map = Map::new(4, 4, 8).unwrap();
        map.set(&[7, 0, 0, 0], &[42, 0, 0, 0]).unwrap();
        let mut code = Assembler::new();
        let end = code.label();
        code.set(R3, 7);
        code.store(Width::Word, R10, -4, R3);
        code.map(R1, &map);
        code.on_stack(R2, -4);
        code.call(Helper::MapLookup);
        code.if_equal(R0, 0, end);
        code.load(Width::Word, R0, R0, 0);
        code.place(end);
        code.exit();
        let program = Program::load(Kind::Packets, "test", &code.finish().unwrap()).unwrap();
        assert_eq!(program.run(&[0; 64]).unwrap().0, 42);
        map.set(&[7, 0, 0, 0], &[43, 0, 0, 0]).unwrap();
        assert_eq!(program.run(&[0; 64]).unwrap().0, 43);
        map.remove(&[7, 0, 0, 0]).unwrap();
        map.remove(&[7, 0, 0, 0]).unwrap();
        assert_eq!(program.run(&[0; 64]).unwrap().0, 0);
    }

    #[test]
    fn the_verifier_says_why_not() {
        let mut code = Assembler::new();
        code.load(Width::Word, R0, R3, 0);
        code.exit();
        let refused = Program::load(Kind::Packets, "test", &code.finish().unwrap()).unwrap_err();
        assert!(refused.to_string().contains("R3"), "{refused}");
    }
}
