//! Sets of capabilities by name, and giving up all others.

use std::io;
use std::str::FromStr;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use serde::{Deserialize, Serialize};

/// Names in the order of the kernel's numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Capabilities(u64);

/// A name that is no capability.
#[derive(Debug, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub(crate) struct UnknownCapability(String);

impl Capabilities {
    pub(crate) const KILL: Self = Self(1 << 5);

    /// The set of `names`.
    pub(crate) fn parse(names: &[String]) -> Result<Self, UnknownCapability> {
        names
            .iter()
            .try_fold(Self::default(), |set, name| Ok(Self(set.0 | name.parse::<Self>()?.0)))
    }

    /// Whether the capability called `name` (without `CAP_`) is in the set.
    pub(crate) fn has(self, name: &str) -> bool {
        NAMES.iter().position(|known| *known == name).is_some_and(|bit| self.0 & (1 << bit) != 0)
    }

    /// Makes this the bounding set of this process and its children.
    pub(crate) fn bound(self) -> io::Result<()> {
        for bit in 0..u64::BITS {
            if self.0 & (1 << bit) != 0 {
                continue;
            }
            // Numbers beyond the kernel's last capability are refused: the end.
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
                Err(rustix::io::Errno::INVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Gives up, for this process only, what is not in the set.
    pub(crate) fn confine_self(self) -> io::Result<()> {
        clear_ambient_capability_set()?;
        let set = CapabilitySet::from_bits_retain(self.0) & capabilities(None)?.permitted;
        let sets =
            CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        Ok(set_capabilities(None, sets)?)
    }
}

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        let bit = NAMES.iter().position(|known| *known == short);
        bit.map(|bit| Self(1 << bit)).ok_or_else(|| UnknownCapability(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_the_kernel() {
        for (name, bit) in [
            ("CAP_CHOWN", 0),
            ("KILL", 5),
            ("CAP_NET_ADMIN", 12),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_MKNOD", 27),
            ("CAP_SETFCAP", 31),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(name.parse::<Capabilities>().unwrap(), Capabilities(1 << bit), "{name}");
        }
        assert!(Capabilities::parse(&["CAP_ALL".to_owned()]).is_err());
    }
}
