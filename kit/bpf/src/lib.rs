//! Small BPF programs: written down instruction by instruction ([`Assembler`]), loaded ([`Program`]), with
//! what they look up ([`Map`]).
//!
//! Programs of a hundred instructions need neither a compiler on the host nor an object file beside the
//! binary; the kernel's verifier reads each one before it runs. The instruction set is RFC 9669's, the
//! structures are those of `linux/bpf.h`.
#![warn(missing_docs)]

mod assembler;
mod map;
mod program;

use std::io;

pub use assembler::{AssembleError, Assembler, Helper, Instruction, Label, Register, Width};
pub use map::Map;
pub use program::{Kind, Program};

/// The kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// It refused, or cannot.
    #[error("cannot {action}")]
    Kernel {
        /// What was to be done.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Its verifier found the program wrong.
    #[error("the kernel does not accept the program: {log}")]
    Refused {
        /// The end of what the verifier wrote.
        log: String,
    },
}

/// One call of bpf(2).
fn bpf<T>(action: &'static str, command: i32, attr: &mut T) -> Result<i32, BpfError> {
    // SAFETY: `attr` is a plain structure valid for its size, and what it points to outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if done < 0 {
        return Err(BpfError::Kernel { action, source: io::Error::last_os_error() });
    }
    Ok(done as i32)
}
