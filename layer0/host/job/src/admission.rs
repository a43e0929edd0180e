//! Whether there is room for a job. The host is the authority: what it refuses, it refuses with the
//! figures a scheduler needs to plan again (design D8).

use std::collections::BTreeMap;

use kit_ids::JobId;
use kit_units::{Bytes, Millicpu};

/// An amount of what a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Memory.
    pub memory: Bytes,
    /// Processor.
    pub cpu: Millicpu,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Bytes.
    Memory,
    /// Thousandths of a processor.
    Cpu,
}

/// A job there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough {}: {requested} requested, {available} available", .resource.name())]
pub struct Refused {
    /// What there is too little of.
    pub resource: Shortage,
    /// How much was asked for.
    pub requested: u64,
    /// How much is free.
    pub available: u64,
    /// The ledger's generation then.
    pub generation: u64,
}

impl Shortage {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

/// Who has reserved what.
#[derive(Clone, Debug)]
pub struct Ledger {
    capacity: Reservation,
    jobs: BTreeMap<JobId, Reservation>,
    reserved: Reservation,
    generation: u64,
}

impl Ledger {
    /// A ledger of a host that has `capacity` for jobs.
    pub fn new(capacity: Reservation) -> Self {
        Self { capacity, jobs: BTreeMap::new(), reserved: Reservation::default(), generation: 0 }
    }

    /// All there is.
    pub fn capacity(&self) -> Reservation {
        self.capacity
    }

    /// What jobs have reserved.
    pub fn reserved(&self) -> Reservation {
        self.reserved
    }

    /// Grows with every reservation made or given back.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reserves for a job, or says what is missing. A job that has a reservation keeps it.
    pub fn reserve(&mut self, job: &JobId, wanted: Reservation) -> Result<(), Refused> {
        if self.jobs.contains_key(job) {
            return Ok(());
        }
        let free_memory = self.capacity.memory.0.saturating_sub(self.reserved.memory.0);
        let free_cpu = self.capacity.cpu.0.saturating_sub(self.reserved.cpu.0);
        let refused = |resource, requested, available| Refused {
            resource,
            requested,
            available,
            generation: self.generation,
        };
        if wanted.memory.0 > free_memory {
            return Err(refused(Shortage::Memory, wanted.memory.0, free_memory));
        }
        if wanted.cpu.0 > free_cpu {
            return Err(refused(Shortage::Cpu, wanted.cpu.0, free_cpu));
        }
        self.adopt(job, wanted);
        Ok(())
    }

    /// Notes what a job has that already runs, whether or not there would be room for it.
    pub fn adopt(&mut self, job: &JobId, has: Reservation) {
        self.release(job);
        self.reserved.memory.0 = self.reserved.memory.0.saturating_add(has.memory.0);
        self.reserved.cpu.0 = self.reserved.cpu.0.saturating_add(has.cpu.0);
        self.jobs.insert(job.clone(), has);
        self.generation += 1;
    }

    /// Gives back what a job had.
    pub fn release(&mut self, job: &JobId) {
        if let Some(had) = self.jobs.remove(job) {
            self.reserved.memory.0 = self.reserved.memory.0.saturating_sub(had.memory.0);
            self.reserved.cpu.0 = self.reserved.cpu.0.saturating_sub(had.cpu.0);
            self.generation += 1;
        }
    }

    /// Whether the sum is the sum.
    pub fn check_invariants(&self) {
        let memory: u64 = self.jobs.values().map(|has| has.memory.0).sum();
        let cpu: u64 = self.jobs.values().map(|has| has.cpu.0).sum();
        assert_eq!((self.reserved.memory.0, self.reserved.cpu.0), (memory, cpu));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(memory: u64, cpu: u64) -> Reservation {
        Reservation { memory: Bytes(memory), cpu: Millicpu(cpu) }
    }

    fn job(number: u8) -> JobId {
        format!("host1-{number}").parse().unwrap()
    }

    #[test]
    fn a_refusal_has_the_figures() {
        let mut ledger = Ledger::new(amount(100, 100));
        ledger.reserve(&job(1), amount(70, 10)).unwrap();
        let refused = ledger.reserve(&job(2), amount(50, 10)).unwrap_err();
        assert_eq!(refused.to_string(), "not enough memory: 50 requested, 30 available");
        assert_eq!(refused.generation, 1);
        let refused = ledger.reserve(&job(2), amount(5, 91)).unwrap_err();
        assert_eq!((refused.resource, refused.available), (Shortage::Cpu, 90));
        ledger.release(&job(1));
        ledger.reserve(&job(2), amount(100, 100)).unwrap();
        assert_eq!(ledger.generation(), 3);
    }

    proptest! {
        #[test]
        fn never_more_than_there_is(
            steps in prop::collection::vec((0_u8..8, any::<bool>(), 0_u64..60, 0_u64..60), 0..60),
        ) {
            let mut ledger = Ledger::new(amount(100, 100));
            for (number, take, memory, cpu) in steps {
                let before = ledger.generation();
                if take {
                    let had = ledger.jobs.contains_key(&job(number));
                    let answer = ledger.reserve(&job(number), amount(memory, cpu));
                    prop_assert_eq!(ledger.generation() > before, answer.is_ok() && !had);
                } else {
                    ledger.release(&job(number));
                }
                ledger.check_invariants();
                prop_assert!(ledger.reserved().memory.0 <= 100 && ledger.reserved().cpu.0 <= 100);
            }
        }
    }
}
