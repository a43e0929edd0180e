//! The host of a single job that belongs to no formation: the same rules, asked for one job at a time
//! by whoever starts it (the controller, for `flynn run` and builds).

use std::collections::BTreeMap;

use kit_clock::Mono;
use kit_ids::HostId;

use crate::fleet::Fleet;
use crate::planner::nowhere;
use crate::ranking::Ranking;
use crate::{Host, Policy, Process, Reservation, Snapshot, Unplaceable};

/// A host that may take the job, and what jobs hold of it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The host.
    pub host: Host,
    /// What is reserved there.
    pub used: Reservation,
}

/// The best host for one job like `process`, or why there is none. A host that refused is left out of
/// the next question.
pub fn choose(offers: &BTreeMap<HostId, Offer>, process: &Process) -> Result<HostId, Unplaceable> {
    let hosts = offers.iter().map(|(id, offer)| (id.clone(), offer.host.clone())).collect();
    let snapshot = Snapshot { hosts, ..Snapshot::default() };
    let mut fleet = Fleet::new(&snapshot, &Policy::default(), Mono::ZERO);
    for (number, offer) in offers.values().enumerate() {
        fleet.count(number, offer.used);
    }
    let none = BTreeMap::new();
    let accepts = |slot: &crate::fleet::Slot<'_>| slot.has_tags(process);
    let mut ranking = Ranking::new(&mut fleet, accepts, &none, process.reservation, 1);
    match ranking.take(&mut fleet) {
        Some(number) => Ok(fleet.slot(number).id.clone()),
        None => Err(nowhere(&fleet, process)),
    }
}
