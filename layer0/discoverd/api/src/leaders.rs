//! Who leads a service, as it changes.

use crate::{EventKind, Instance, Watch};

/// The leader of a service and each change of it. Never ends: it reconnects.
#[derive(Debug)]
pub struct Leaders {
    watch: Watch,
    /// What was given last; None before the first.
    given: Option<Option<Instance>>,
}

impl Leaders {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, given: None }
    }

    /// The leader, at once the first time, then whenever it is another or none.
    pub async fn next(&mut self) -> Option<Instance> {
        loop {
            let event = self.watch.next().await;
            let leader = match event.kind {
                EventKind::Leader => event.instance,
                // The picture was complete without a leader.
                EventKind::Current if self.given.is_none() => None,
                EventKind::Current
                | EventKind::Up
                | EventKind::Update
                | EventKind::Down
                | EventKind::ServiceMeta
                | EventKind::Unknown => continue,
            };
            if self.given.as_ref() != Some(&leader) {
                self.given = Some(leader.clone());
                return leader;
            }
        }
    }
}
