//! The processor time one thread takes to place jobs on simulated hosts: the planner alone, without any IO.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use kit_clock::{Mono, Wall};
use kit_units::{Bytes, Millicpu};
use placement::{
    Formation, FormationKey, Host, HostState, Job, JobState, Plan, Policy, Process, Reservation,
    Snapshot, plan,
};

/// Hosts, jobs, and jobs of one app.
const SIZES: [(u64, u64, u64); 6] = [
    (1250, 25_000, 20),
    (2500, 50_000, 20),
    (5000, 25_000, 20),
    (5000, 50_000, 20),
    (5000, 100_000, 20),
    (5000, 100_000, 1),
];
const RESERVATION: Reservation = Reservation { memory: Bytes::mib(96), cpu: Millicpu(50) };
const CAPACITY: Reservation = Reservation { memory: Bytes::gib(64), cpu: Millicpu(32_000) };

/// Prints the median of `rounds` for each size: from empty, with nothing to do, and with one host lost.
pub(crate) fn measure(rounds: usize) -> anyhow::Result<()> {
    println!("hosts  jobs    an app  from empty  steady     one host lost");
    for (hosts, jobs, per_app) in SIZES {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..rounds.max(1) {
            let round = measure_once(hosts, jobs, per_app)?;
            for (times, took) in times.iter_mut().zip(round) {
                times.push(took);
            }
        }
        let [empty, steady, lost] = times.map(median);
        println!("{hosts:<6} {jobs:<7} {per_app:<7} {empty:>8.1?} {steady:>8.1?} {lost:>8.1?}");
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn measure_once(hosts: u64, jobs: u64, per_app: u64) -> anyhow::Result<[Duration; 3]> {
    let mut snapshot = empty_cluster(hosts, jobs, per_app)?;
    let (first, from_empty) = timed(&snapshot);
    anyhow::ensure!(first.starts().count() as u64 == jobs, "every job has a host");
    carry_out(&mut snapshot, &first)?;
    let (again, steady) = timed(&snapshot);
    anyhow::ensure!(again.steps.is_empty(), "nothing is left to do");
    let host = snapshot.hosts.values_mut().next().context("a host")?;
    host.state = HostState::Silent { since: Mono::ZERO };
    let (moved, lost) = timed(&snapshot);
    anyhow::ensure!(moved.starts().count() == moved.lost.len(), "what was lost is replaced");
    Ok([from_empty, steady, lost])
}

fn timed(snapshot: &Snapshot) -> (Plan, Duration) {
    let now = Mono::ZERO + Duration::from_secs(3600);
    let start = processor_time();
    let plan = plan(snapshot, &Policy::default(), now);
    (plan, processor_time().saturating_sub(start))
}

/// Of this thread: on a shared machine others do not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

fn empty_cluster(hosts: u64, jobs: u64, per_app: u64) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for n in 0..hosts {
        let host = Host { tags: BTreeMap::new(), capacity: CAPACITY, state: HostState::Serving };
        snapshot.hosts.insert(format!("host{n}").parse()?, host);
    }
    for n in 0..jobs.div_ceil(per_app) {
        let id = format!("{n:08x}-0000-4000-8000-000000000000");
        let key = FormationKey { app: id.parse()?, release: id.parse()? };
        let count = u32::try_from(per_app)?;
        let web = Process { count, reservation: RESERVATION, ..Process::default() };
        let processes = [("web".into(), web)].into();
        snapshot.formations.insert(key, Formation { processes, ..Formation::default() });
    }
    Ok(snapshot)
}

/// Makes running jobs of the starts, host by host as a scheduler hears of them.
fn carry_out(snapshot: &mut Snapshot, plan: &Plan) -> anyhow::Result<()> {
    for (n, start) in plan.starts().enumerate() {
        snapshot.jobs.push(Job {
            id: format!("{}-{n:08x}-0000-4000-8000-000000000000", start.host).parse()?,
            host: start.host.clone(),
            formation: Some(start.formation.clone()),
            process: start.process.clone(),
            state: JobState::Running,
            created: Wall::from_epoch(Duration::from_secs(1)),
            reservation: RESERVATION,
        });
    }
    snapshot.jobs.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(())
}
