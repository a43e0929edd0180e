//! Which data a new job finds again. A free volume pins its job to the volume's host; each volume is
//! given to one job of a plan at most.

use std::collections::{BTreeMap, BTreeSet};

use kit_ids::{HostId, VolumeId};

use crate::{FormationKey, Process, ProcessName, Snapshot, VolumeState, VolumeUse};

type Shelf<'a> = (&'a FormationKey, &'a ProcessName);
type Labelled<'a> = (&'a VolumeId, &'a str, &'a HostId);

/// The free volumes of a snapshot, by process type.
#[derive(Debug, Default)]
pub(crate) struct FreeVolumes<'a> {
    by_type: BTreeMap<Shelf<'a>, Vec<Labelled<'a>>>,
    taken: BTreeSet<&'a VolumeId>,
}

impl<'a> FreeVolumes<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let mut free = Self::default();
        for (id, volume) in &snapshot.volumes {
            match volume.state {
                VolumeState::Free => {
                    let shelf =
                        free.by_type.entry((&volume.formation, &volume.process)).or_default();
                    shelf.push((id, &volume.path, &volume.host));
                }
                VolumeState::Held | VolumeState::Decommissioned => {}
            }
        }
        free
    }

    /// The volumes that decide where a job goes: those of the type's first path that keeps data.
    pub(crate) fn pinning(
        &self,
        key: &FormationKey,
        name: &ProcessName,
        process: &Process,
    ) -> Vec<(&'a VolumeId, &'a HostId)> {
        let Some(first) = process.volumes.iter().find(|need| !need.delete_on_stop) else {
            return Vec::new();
        };
        self.of_type(key, name)
            .into_iter()
            .filter(|(_, path, _)| *path == first.path)
            .map(|(id, _, host)| (id, host))
            .collect()
    }

    /// The volumes of a job that goes to `host`: what is free there, else new ones.
    pub(crate) fn take_on(
        &mut self,
        key: &FormationKey,
        name: &ProcessName,
        process: &Process,
        host: &HostId,
    ) -> Vec<VolumeUse> {
        let mut uses = Vec::with_capacity(process.volumes.len());
        for need in &process.volumes {
            let found = self
                .of_type(key, name)
                .into_iter()
                .find(|(_, path, on)| *path == need.path && *on == host);
            let existing = found.filter(|_| !need.delete_on_stop).map(|(id, _, _)| id);
            if let Some(id) = existing {
                self.taken.insert(id);
            }
            let (path, delete_on_stop) = (need.path.clone(), need.delete_on_stop);
            uses.push(VolumeUse { path, existing: existing.cloned(), delete_on_stop });
        }
        uses
    }

    /// Reserves a volume for a job that has to wait for it.
    pub(crate) fn set_aside(&mut self, id: &'a VolumeId) {
        self.taken.insert(id);
    }

    fn of_type(&self, key: &FormationKey, name: &ProcessName) -> Vec<Labelled<'a>> {
        let shelf = self.by_type.get(&(key, name)).map_or(&[][..], Vec::as_slice);
        shelf.iter().copied().filter(|(id, _, _)| !self.taken.contains(id)).collect()
    }
}
