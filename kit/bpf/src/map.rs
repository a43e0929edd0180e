//! What programs look up: hash tables between fixed sizes of bytes, shared with the kernel.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use crate::{BpfError, bpf};

const CREATE: i32 = 0;
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const HASH: u32 = 1;
/// Memory is taken as entries come.
const NO_PREALLOCATION: u32 = 1;

/// A hash table. It lives as long as this value or a loaded program that names it.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

#[repr(C)]
struct CreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttr {
    fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    /// A table for at most so many entries, of keys and values of so many bytes.
    pub fn new(key: usize, value: usize, max_entries: u32) -> Result<Self, BpfError> {
        let mut attr = CreateAttr {
            kind: HASH,
            key_size: key as u32,
            value_size: value as u32,
            max_entries,
            flags: NO_PREALLOCATION,
        };
        let fd = bpf("make a map", CREATE, &mut attr)?;
        // SAFETY: the kernel gave us a fresh descriptor.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, key, value })
    }

    /// Sets or replaces an entry, in one step for every program.
    ///
    /// # Panics
    /// If a size is not what the map was made for.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), BpfError> {
        assert_eq!((key.len(), value.len()), (self.key, self.value), "sizes of the map");
        let mut attr = self.element(key, value.as_ptr() as u64);
        bpf("set an entry of a map", UPDATE, &mut attr).map(drop)
    }

    /// Removes an entry; not being there is success.
    ///
    /// # Panics
    /// If the size is not what the map was made for.
    pub fn remove(&self, key: &[u8]) -> Result<(), BpfError> {
        assert_eq!(key.len(), self.key, "size of the map's keys");
        match bpf("remove an entry of a map", DELETE, &mut self.element(key, 0)) {
            Err(BpfError::Kernel { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn element(&self, key: &[u8], value: u64) -> ElementAttr {
        let fd = self.fd.as_raw_fd() as u32;
        ElementAttr { fd, _padding: 0, key: key.as_ptr() as u64, value, flags: 0 }
    }
}
