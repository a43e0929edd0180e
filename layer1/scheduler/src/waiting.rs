//! What is wanted and has no host: a record in state `pending` for each, with the reason, so that `flynn
//! ps` tells why. The job that finds a host takes over the record of one that waited.

use std::collections::BTreeMap;

use controller_api::{Job, JobState, Timestamp};
use futures_util::StreamExt as _;
use kit_clock::{Mono, Wall};
use placement::{FormationKey, Plan, ProcessName, Unplaceable, Unplaced};

use crate::cluster::Cluster;
use crate::records;
use crate::round::Scheduler;
use crate::view::View;

/// Records for one process type: whoever waits for ten thousand jobs reads no more than this.
const TOLD_PER_TYPE: usize = 20;
/// Records written in one round; the next one goes on.
const TOLD_AT_ONCE: usize = 500;
/// How many are written at a time.
const WRITTEN_AT_ONCE: usize = 16;

type TypeKey = (FormationKey, ProcessName);

impl<C: Cluster> Scheduler<C> {
    /// Makes the records of waiting jobs equal to what is unplaced.
    pub(crate) async fn tell_waiting(&self, view: &View, plan: &Plan, at: (Mono, Wall)) {
        let mut unplaced = BTreeMap::<TypeKey, Vec<&Unplaced>>::new();
        for one in &plan.unplaced {
            unplaced.entry((one.formation.clone(), one.process.clone())).or_default().push(one);
        }
        let none = Vec::new();
        let mut changes = Vec::new();
        for (key, records) in &view.waiting {
            let reasons = unplaced.remove(key).unwrap_or_default();
            changes.extend(self.changes(view, records, &reasons, at));
        }
        for reasons in unplaced.values() {
            changes.extend(self.changes(view, &none, reasons, at));
        }
        changes.truncate(TOLD_AT_ONCE);
        futures_util::stream::iter(changes)
            .for_each_concurrent(WRITTEN_AT_ONCE, |record| async move {
                if let Err(error) = self.cluster.record(&record).await {
                    tracing::warn!(%error, "it is not recorded why a job waits, trying again");
                }
            })
            .await;
    }

    /// One type's records that are to be written: other reasons, new ones, and ends of those that wait no
    /// longer.
    fn changes(
        &self,
        view: &View,
        records: &[Job],
        reasons: &[&Unplaced],
        at: (Mono, Wall),
    ) -> Vec<Job> {
        let mut records = records.iter();
        let mut changes = Vec::new();
        let told = reasons.iter().filter(|one| one.reason != Unplaceable::StillStopping);
        let told = told.flat_map(|one| (0..one.count).map(move |_| one)).take(TOLD_PER_TYPE);
        for one in told {
            let Some(formation) = view.formations.get(&one.formation) else { continue };
            let known = records.next();
            let uuid = known.and_then(|job| job.uuid.clone());
            let fresh = || self.cluster.fresh_name().to_string().parse().ok();
            let Some(uuid) = uuid.or_else(fresh) else { continue };
            let run_at = one.reason.until().map(|until| run_at(until, at));
            let record = Job { run_at, ..records::waiting(formation, one, &uuid) };
            if known.is_none_or(|known| known.host_error != record.host_error) {
                changes.push(record);
            }
        }
        // A job that waits only until another has ended is not worth a record, nor the end of one.
        let stopping = reasons.iter().filter(|one| one.reason == Unplaceable::StillStopping);
        let stopping: u32 = stopping.map(|one| one.count).sum();
        let over = records.skip(stopping as usize);
        changes.extend(over.map(|job| Job { state: Some(JobState::Down), ..job.clone() }));
        changes
    }
}

/// When time alone may help, on everybody's clock.
fn run_at(until: Mono, (now, wall): (Mono, Wall)) -> Timestamp {
    Timestamp::from(Wall::from_epoch(wall.since_epoch() + now.until(until)))
}
