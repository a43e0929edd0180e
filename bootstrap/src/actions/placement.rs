//! Which job runs on which host: all hosts in turn, starting anywhere. The scheduler, once there is
//! one, does better.

use kit_ids::HostId;

use crate::steps::Count;

/// The hosts of a process type's jobs.
pub(super) fn hosts_of(
    count: Count,
    hosts: &[HostId],
    singleton: bool,
    start: usize,
) -> Vec<HostId> {
    let jobs = match count {
        Count::EveryHost => hosts.len(),
        Count::Jobs { singleton: one, .. } if singleton => usize::try_from(one).unwrap_or(0),
        Count::Jobs { cluster, .. } => usize::try_from(cluster).unwrap_or(0),
    };
    let from = if hosts.is_empty() { 0 } else { start % hosts.len() };
    hosts.iter().cycle().skip(from).take(if hosts.is_empty() { 0 } else { jobs }).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_go_round_the_hosts() {
        let hosts: Vec<HostId> = ["a", "b", "c"].map(|id| id.parse().unwrap()).to_vec();
        let ids = |count, singleton, start| {
            let chosen = hosts_of(count, &hosts, singleton, start);
            chosen.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>().join("")
        };
        let two = Count::Jobs { singleton: 1, cluster: 2 };
        assert_eq!(ids(Count::EveryHost, false, 1), "bca");
        assert_eq!(ids(two, false, 2), "ca");
        assert_eq!(ids(two, true, 4), "b");
        assert_eq!(ids(Count::Jobs { singleton: 1, cluster: 5 }, false, 0), "abcab");
        assert_eq!(hosts_of(two, &[], false, 1), []);
    }
}
