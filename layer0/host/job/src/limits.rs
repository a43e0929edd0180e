//! What a job may use and what is reserved for it, from what it states. The wire's defaults are limits;
//! a request that no person stated counts as the host's default reservation (design D8).

use kit_units::{Bytes, Millicpu};

use crate::Reservation;

/// Request and limit of one kind, as stated. Negative numbers are kept out at the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// What should be reserved.
    pub request: Option<u64>,
    /// What may be used.
    pub limit: Option<u64>,
}

/// Everything a job states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatedResources {
    /// Bytes.
    pub memory: Stated,
    /// Thousandths of a processor.
    pub cpu: Stated,
    /// Bytes of scratch disk.
    pub temp_disk: Stated,
    /// Open files.
    pub max_fd: Stated,
    /// Processes and threads.
    pub max_procs: Stated,
}

/// What holds for jobs that state nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireDefaults {
    /// Most memory. Clients fill it in as request too, so a request of exactly this says nothing.
    pub memory: Bytes,
    /// CPU weight. The same holds for its request.
    pub cpu: Millicpu,
    /// Scratch disk.
    pub scratch: Bytes,
    /// Open files.
    pub files: u64,
    /// Processes and threads.
    pub processes: u64,
    /// What is reserved when nobody stated a request.
    pub reservation: Reservation,
}

impl Default for WireDefaults {
    fn default() -> Self {
        Self {
            memory: Bytes::gib(1),
            cpu: Millicpu(1000),
            scratch: Bytes::mib(100),
            files: 10_000,
            processes: 1024,
            reservation: Reservation { memory: Bytes::mib(96), cpu: Millicpu(50) },
        }
    }
}

/// What one job gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most memory.
    pub memory: Bytes,
    /// CPU weight; no job has a hard bound unless the host sets one.
    pub cpu: Millicpu,
    /// Most scratch disk.
    pub scratch: Bytes,
    /// Open files: soft, hard.
    pub files: (u64, u64),
    /// Processes and threads.
    pub processes: u64,
    /// What is kept free for it.
    pub reservation: Reservation,
}

impl Limits {
    /// Fills in what is not stated.
    pub fn of(stated: &StatedResources, defaults: &WireDefaults) -> Self {
        let memory = stated.memory.limit.map_or(defaults.memory, Bytes);
        let cpu = stated.cpu.limit.map_or(defaults.cpu, Millicpu);
        let hard_files = stated.max_fd.limit.unwrap_or(defaults.files);
        let soft_files = stated.max_fd.request.unwrap_or(hard_files).min(hard_files);
        Self {
            memory,
            cpu,
            scratch: stated.temp_disk.limit.map_or(defaults.scratch, Bytes),
            files: (soft_files, hard_files),
            processes: stated.max_procs.limit.unwrap_or(defaults.processes),
            reservation: Reservation {
                memory: reserved_memory(stated.memory, memory, defaults),
                cpu: reserved_cpu(stated.cpu, cpu, defaults),
            },
        }
    }
}

/// CPU shares (cgroup v1) of a weight in thousandths.
pub fn shares(cpu: Millicpu) -> u64 {
    (cpu.0.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn reserved_memory(stated: Stated, limit: Bytes, defaults: &WireDefaults) -> Bytes {
    let own = stated.request.filter(|request| *request != defaults.memory.0);
    own.map_or(defaults.reservation.memory, Bytes).min(limit)
}

fn reserved_cpu(stated: Stated, limit: Millicpu, defaults: &WireDefaults) -> Millicpu {
    let own = stated.request.filter(|request| *request != defaults.cpu.0);
    own.map_or(defaults.reservation.cpu, Millicpu).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(value: u64) -> Stated {
        Stated { request: Some(value), limit: Some(value) }
    }

    #[test]
    fn a_job_that_states_nothing_gets_the_defaults() {
        let defaults = WireDefaults::default();
        let limits = Limits::of(&StatedResources::default(), &defaults);
        assert_eq!(limits.memory, Bytes::gib(1));
        assert_eq!(limits.files, (10_000, 10_000));
        assert_eq!(limits.processes, 1024);
        assert_eq!(limits.scratch, Bytes::mib(100));
        assert_eq!(limits.reservation, defaults.reservation);
    }

    #[test]
    fn what_clients_fill_in_is_no_request() {
        let defaults = WireDefaults::default();
        let filled =
            StatedResources { memory: both(1 << 30), cpu: both(1000), ..Default::default() };
        assert_eq!(Limits::of(&filled, &defaults).reservation, defaults.reservation);
        let meant = StatedResources { memory: both(300 << 20), cpu: both(250), ..filled };
        let reservation = Limits::of(&meant, &defaults).reservation;
        assert_eq!(reservation, Reservation { memory: Bytes::mib(300), cpu: Millicpu(250) });
        // A job that may use less than the default reservation needs no more kept free.
        let tiny = StatedResources {
            memory: Stated { request: None, limit: Some(16 << 20) },
            ..Default::default()
        };
        assert_eq!(Limits::of(&tiny, &defaults).reservation.memory, Bytes::mib(16));
    }

    #[test]
    fn shares_follow_the_wire() {
        for (milli, want) in [(750, 768), (1000, 1024), (0, 2), (1, 2), (u64::MAX, 262_144)] {
            assert_eq!(shares(Millicpu(milli)), want);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_reserved_beyond_its_limit(request in any::<Option<u64>>(), limit in any::<Option<u64>>()) {
            let stated = Stated { request, limit };
            let all = StatedResources { memory: stated, cpu: stated, max_fd: stated, ..Default::default() };
            let limits = Limits::of(&all, &WireDefaults::default());
            prop_assert!(limits.reservation.memory <= limits.memory);
            prop_assert!(limits.reservation.cpu <= limits.cpu);
            prop_assert!(limits.files.0 <= limits.files.1);
        }
    }
}
