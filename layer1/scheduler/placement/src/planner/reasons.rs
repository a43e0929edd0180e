//! Why what is wanted is not placed: the planner's answers to people.

use kit_ids::HostId;

use super::{Planner, Wish};
use crate::fleet::Standing;
use crate::{Refusal, Retry, Unplaceable, Unplaced};

impl<'a> Planner<'a> {
    pub(super) fn refusal(&self, wish: Wish<'a>, host: &HostId) -> Option<&'a Refusal> {
        let refusals = self.refusals.get(&(wish.key, wish.name))?;
        refusals.iter().copied().find(|refusal| refusal.host == *host)
    }

    /// Why no host can take a job of this type: asked only when that is so.
    pub(super) fn why_nowhere(&self, wish: Wish<'a>) -> Unplaceable {
        let serving = || self.fleet.slots().filter(|(_, slot)| slot.standing == Standing::Serving);
        if serving().next().is_none() {
            return Unplaceable::NoHosts;
        }
        let tagged: Vec<usize> = serving()
            .filter(|(_, slot)| slot.has_tags(wish.process))
            .map(|(number, _)| number)
            .collect();
        let soonest = tagged
            .iter()
            .filter(|number| self.fleet.slot(**number).has_room(wish.process.reservation))
            .filter_map(|number| self.refusal(wish, self.fleet.slot(*number).id))
            .min_by_key(|refusal| refusal.until);
        if let Some(refusal) = soonest {
            return refused(refusal);
        }
        let roomiest = tagged.into_iter().max_by_key(|number| {
            (self.fleet.slot(*number).free().memory, std::cmp::Reverse(*number))
        });
        match roomiest {
            Some(number) => self.no_room(wish, number),
            None => Unplaceable::NoTags(wish.process.tags.clone()),
        }
    }

    pub(super) fn no_room(&self, wish: Wish<'a>, number: usize) -> Unplaceable {
        let slot = self.fleet.slot(number);
        let (wanted, free) = (wish.process.reservation, slot.free());
        Unplaceable::NoRoom {
            memory: wanted.memory,
            cpu: wanted.cpu,
            roomiest: slot.id.clone(),
            free_memory: free.memory,
            free_cpu: free.cpu,
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

pub(super) fn refused(refusal: &Refusal) -> Unplaceable {
    Unplaceable::Refused {
        host: refusal.host.clone(),
        why: refusal.why.clone(),
        until: refusal.until,
    }
}
