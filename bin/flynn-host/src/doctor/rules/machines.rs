//! The machines below the hosts: disk, memory, clocks, room for jobs' networks.

use crate::doctor::facts::{Facts, HostAnswer, HostFacts, Machine};
use crate::doctor::finding::Finding;

const MIB: u64 = 1 << 20;
/// Below either of these a disk is as good as full: logs and state stop being written.
const DISK_FULL: u64 = 256 * MIB;
const DISK_FULL_PERCENT: u64 = 2;
/// Below both of these a large build or image may not fit.
const DISK_LOW: u64 = 4096 * MIB;
const DISK_LOW_PERCENT: u64 = 10;
/// Below either of these the kernel is about to end processes.
const MEMORY_LOW: u64 = 128 * MIB;
const MEMORY_LOW_PERCENT: u64 = 4;
/// By how much clocks may differ, milliseconds, before people notice.
const SKEW: u64 = 2_000;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for (host, answer) in facts.answering() {
        if let Some(machine) = &answer.machine {
            all.extend(disk(host, machine));
            all.extend(memory(host, machine));
        }
        all.extend(network(facts, host, answer));
    }
    all.extend(clocks(facts));
    all
}

fn disk(host: &HostFacts, machine: &Machine) -> Option<Finding> {
    let (free, total) = machine.disk;
    let percent = percent(free, total)?;
    let seen =
        format!("the disk below {} has {} free of {}", machine.data_dir, size(free), size(total));
    let command = format!("du -xhd 2 {} | sort -h | tail", machine.data_dir);
    if free < DISK_FULL || percent < DISK_FULL_PERCENT {
        let found = Finding::critical("disk-full", seen)
            .on(host.name())
            .why("jobs are refused, log lines are lost, discoverd and databases stop writing")
            .next_on(host.name(), command)
            .or_if("volumes of no use fill it", "flynn-host volume list");
        return Some(found);
    }
    (free < DISK_LOW && percent < DISK_LOW_PERCENT).then(|| {
        Finding::warning("disk-low", seen)
            .on(host.name())
            .why("a large build or image may not fit any more")
            .next_on(host.name(), command)
            .or_if("volumes of no use fill it", "flynn-host volume list")
    })
}

fn memory(host: &HostFacts, machine: &Machine) -> Option<Finding> {
    let (free, total) = machine.memory;
    let percent = percent(free, total)?;
    (free < MEMORY_LOW || percent < MEMORY_LOW_PERCENT).then(|| {
        let seen = format!("{} of {} memory can still be had", size(free), size(total));
        Finding::warning("memory-low", seen)
            .on(host.name())
            .why("the kernel ends processes when there is none")
            .next_on(host.name(), "ps -eo pid,rss,args --sort=-rss | head")
            .or_if("its jobs shall go elsewhere", format!("flynn-host drain {}", host.name()))
    })
}

/// Once the overlay's jobs have run somewhere, a host without a network for jobs lacks its own.
fn network(facts: &Facts, host: &HostFacts, answer: &HostAnswer) -> Option<Finding> {
    let overlay = facts.job_of(host.ip, "flannel");
    let expected = facts.discovery.leases.as_ref().is_some_and(|leases| !leases.is_empty());
    if answer.subnet.is_some() || !expected {
        return None;
    }
    let found = Finding::critical("no-network", "has no network for jobs")
        .on(host.name())
        .why("none of its jobs can start except those on the host's own network");
    Some(match overlay {
        Some(job) => found.next(format!("flynn-host log {}", job.id)),
        None => found.next("flynn -a flannel ps"),
    })
}

fn clocks(facts: &Facts) -> Vec<Finding> {
    let clocks = facts.answering().filter_map(|(host, answer)| {
        let (ahead, doubt) = answer.machine.as_ref()?.clock;
        Some((host, ahead, doubt))
    });
    let clocks: Vec<_> = clocks.collect();
    let mut sorted: Vec<_> = clocks.iter().map(|(_, ahead, _)| *ahead).collect();
    sorted.sort_unstable();
    // The middle one is right if most are; of two nobody knows which one is.
    let Some(middle) = sorted.get(sorted.len() / 2).copied() else { return Vec::new() };
    let doubt_of_middle =
        clocks.iter().find(|(_, ahead, _)| *ahead == middle).map_or(0, |(_, _, doubt)| *doubt);
    let wrong = clocks.into_iter().filter(|(_, ahead, doubt)| {
        ahead.abs_diff(middle) > SKEW.saturating_add(*doubt).saturating_add(doubt_of_middle)
    });
    wrong.map(|(host, ahead, _)| skewed(host, ahead.saturating_sub(middle))).collect()
}

fn skewed(host: &HostFacts, ahead: i64) -> Finding {
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let seen = format!("its clock is {} s {way} the others", ahead.unsigned_abs() / 1000);
    Finding::warning("clock-skew", seen)
        .on(host.name())
        .why("log lines come out of order, certificates and build tokens may count as expired")
        .next_on(host.name(), "timedatectl set-ntp true   # or start another NTP client")
}

fn percent(part: u64, whole: u64) -> Option<u64> {
    part.saturating_mul(100).checked_div(whole)
}

/// `1.5 GiB`.
fn size(bytes: u64) -> String {
    const GIB: u64 = 1024 * MIB;
    if bytes >= GIB {
        return format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB);
    }
    format!("{} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down() {
        for (bytes, text) in [
            (0, "0 MiB"),
            (MIB - 1, "0 MiB"),
            (1536 * MIB, "1.5 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
