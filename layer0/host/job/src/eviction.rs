//! Which ended jobs leave the list: an app keeps its newest few.

use std::collections::BTreeMap;

use kit_clock::Wall;
use kit_ids::JobId;

/// How many ended jobs of one app stay in the list.
pub const KEPT_PER_APP: usize = 25;

/// An ended job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The job.
    pub job: JobId,
    /// Its app; jobs of none count as one app's.
    pub app: String,
    /// When it ended.
    pub at: Wall,
}

/// The jobs that leave the list, oldest first within their app.
pub fn evictions(ended: &[Ended], keep: usize) -> Vec<JobId> {
    let mut by_app: BTreeMap<&str, Vec<&Ended>> = BTreeMap::new();
    for job in ended {
        by_app.entry(&job.app).or_default().push(job);
    }
    let mut leaving = Vec::new();
    for jobs in by_app.values_mut() {
        jobs.sort_by_key(|ended| (ended.at, ended.job.clone()));
        let excess = jobs.len().saturating_sub(keep);
        leaving.extend(jobs[..excess].iter().map(|ended| ended.job.clone()));
    }
    leaving
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn the_newest_of_each_app_stay(times in prop::collection::vec((0_u8..3, 0_u64..50), 0..80), keep in 0_usize..30) {
            let ended: Vec<Ended> = times.iter().enumerate().map(|(number, (app, at))| Ended {
                job: format!("host1-{number}").parse().unwrap(),
                app: app.to_string(),
                at: Wall::from_epoch(Duration::from_secs(*at)),
            }).collect();
            let leaving = evictions(&ended, keep);
            for app in ["0", "1", "2"] {
                let of_app: Vec<_> = ended.iter().filter(|ended| ended.app == app).collect();
                let (gone, kept): (Vec<_>, Vec<_>) =
                    of_app.iter().partition(|ended| leaving.contains(&ended.job));
                prop_assert_eq!(kept.len(), of_app.len().min(keep));
                let newest_gone = gone.iter().map(|ended: &&&Ended| ended.at).max();
                let oldest_kept = kept.iter().map(|ended: &&&Ended| ended.at).min();
                if let (Some(gone), Some(kept)) = (newest_gone, oldest_kept) {
                    prop_assert!(gone <= kept);
                }
            }
        }
    }
}
