//! Who is attaching to which job: a job's program does not start while an attacher that came before it
//! is on its way, so that no output is lost; and jobs without a log have one attacher at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kit_ids::JobId;
use tokio::sync::watch;

/// Attachers on their way, of all jobs: each is a connection.
const MOST_WAITING: usize = 1024;

/// The gates of all jobs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<JobId, watch::Sender<usize>>,
    exclusive: BTreeSet<JobId>,
}

/// An attacher on its way; leaves when dropped.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    gates: Gates,
    job: JobId,
}

/// The one attacher of a job without a log; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Exclusive {
    gates: Gates,
    job: JobId,
}

impl Gates {
    /// Announces an attacher; none when there are too many.
    pub(crate) fn enter(&self, job: &JobId) -> Option<OnItsWay> {
        let mut inner = self.lock();
        let total: usize = inner.waiting.values().map(|count| *count.borrow()).sum();
        if total >= MOST_WAITING {
            return None;
        }
        let gate = inner.waiting.entry(job.clone()).or_insert_with(|| watch::Sender::new(0));
        gate.send_modify(|count| *count += 1);
        Some(OnItsWay { gates: self.clone(), job: job.clone() })
    }

    /// Waits until nobody is on its way to the job.
    pub(crate) async fn all_through(&self, job: &JobId) {
        let gate = self.lock().waiting.get(job).map(watch::Sender::subscribe);
        if let Some(mut gate) = gate {
            // A gate that is gone is open.
            drop(gate.wait_for(|count| *count == 0).await);
        }
    }

    /// Becomes the job's one attacher; none when there is one.
    pub(crate) fn exclusive(&self, job: &JobId) -> Option<Exclusive> {
        let free = self.lock().exclusive.insert(job.clone());
        free.then(|| Exclusive { gates: self.clone(), job: job.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut inner = self.gates.lock();
        let left = inner.waiting.get(&self.job).map(|gate| {
            gate.send_modify(|count| *count -= 1);
            *gate.borrow()
        });
        if left == Some(0) {
            inner.waiting.remove(&self.job);
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.gates.lock().exclusive.remove(&self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_waits_for_all_who_came_before_it() {
        let gates = Gates::default();
        let job: JobId = "host1-a".parse().unwrap();
        gates.all_through(&job).await;
        let (first, second) = (gates.enter(&job).unwrap(), gates.enter(&job).unwrap());
        let through = gates.all_through(&job);
        tokio::pin!(through);
        drop(first);
        assert!(futures_util::poll!(&mut through).is_pending());
        drop(second);
        through.await;
        assert!(gates.lock().waiting.is_empty());
    }

    #[test]
    fn a_job_without_a_log_has_one_attacher() {
        let gates = Gates::default();
        let job: JobId = "host1-a".parse().unwrap();
        let one = gates.exclusive(&job).unwrap();
        assert!(gates.exclusive(&job).is_none());
        drop(one);
        assert!(gates.exclusive(&job).is_some());
    }
}
