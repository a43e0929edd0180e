//! Why what is wanted is not placed: the planner's answers to people.

use kit_ids::HostId;

use super::{Planner, Wish};
use crate::fleet::{Fleet, Standing};
use crate::{Process, Refusal, Retry, Unplaceable, Unplaced};

impl<'a> Planner<'a> {
    pub(super) fn refusal(&self, wish: Wish<'a>, host: &HostId) -> Option<&'a Refusal> {
        let refusals = self.refusals.get(&(wish.key, wish.name))?;
        refusals.iter().copied().find(|refusal| refusal.host == *host)
    }

    /// Why no host can take a job of this type: asked only when that is so.
    pub(super) fn why_nowhere(&self, wish: Wish<'a>) -> Unplaceable {
        let with_room = self.fleet.slots().filter(|(_, slot)| {
            slot.takes(wish.process) && slot.has_room(wish.process.reservation)
        });
        let refusals = with_room.filter_map(|(_, slot)| self.refusal(wish, slot.id));
        match refusals.min_by_key(|refusal| refusal.until) {
            Some(refusal) => refused(refusal),
            None => nowhere(&self.fleet, wish.process),
        }
    }

    pub(super) fn back_off(&mut self, wish: Wish<'a>, retry: &Retry) {
        let reason = Unplaceable::BackingOff { restarts: retry.restarts, until: retry.not_before };
        self.leave_unplaced(wish, 1, reason);
    }

    pub(super) fn leave_unplaced(&mut self, wish: Wish<'a>, count: usize, reason: Unplaceable) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (formation, process) = (wish.key.clone(), wish.name.clone());
        self.unplaced.push(Unplaced { formation, process, count, reason });
    }
}

/// Why no host can take such a job, refusals aside.
pub(crate) fn nowhere(fleet: &Fleet<'_>, process: &Process) -> Unplaceable {
    let mut serving = fleet.slots().filter(|(_, slot)| slot.standing == Standing::Serving);
    if serving.next().is_none() {
        return Unplaceable::NoHosts;
    }
    let tagged = fleet.slots().filter(|(_, slot)| slot.takes(process));
    let roomiest =
        tagged.max_by_key(|(number, slot)| (slot.free().memory, std::cmp::Reverse(*number)));
    match roomiest {
        Some((number, _)) => no_room(fleet, process, number),
        None => Unplaceable::NoTags(process.tags.clone()),
    }
}

/// What a host lacks.
pub(super) fn no_room(fleet: &Fleet<'_>, process: &Process, number: usize) -> Unplaceable {
    let slot = fleet.slot(number);
    let (wanted, free) = (process.reservation, slot.free());
    Unplaceable::NoRoom {
        memory: wanted.memory,
        cpu: wanted.cpu,
        roomiest: slot.id.clone(),
        free_memory: free.memory,
        free_cpu: free.cpu,
    }
}

pub(super) fn refused(refusal: &Refusal) -> Unplaceable {
    Unplaceable::Refused {
        host: refusal.host.clone(),
        why: refusal.why.clone(),
        until: refusal.until,
    }
}
