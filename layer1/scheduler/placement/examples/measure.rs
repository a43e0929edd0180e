//! How long planning from empty takes: `cargo run --release --example measure -- HOSTS JOBS PER_APP`.
//! Prints the figures; `script/bench` compares them with the budget.

use std::collections::BTreeMap;

use kit_clock::Mono;
use kit_units::{Bytes, Millicpu};
use placement::{
    Formation, FormationKey, Host, HostState, Policy, Process, Reservation, Snapshot, plan,
};

#[expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program, not the planner"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut figures = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| figures.next().unwrap_or(Ok(default));
    let (hosts, jobs, per_app) = (next(5000)?, next(100_000)?, next(20)?);
    let snapshot = empty_cluster(hosts, jobs, per_app)?;
    let start = std::time::Instant::now();
    let plan = plan(&snapshot, &Policy::default(), Mono::ZERO);
    println!(
        "{hosts} hosts, {jobs} jobs, {per_app} an app: {} placed in {:?}",
        plan.starts().count(),
        start.elapsed()
    );
    Ok(())
}

fn empty_cluster(
    hosts: u64,
    jobs: u64,
    per_app: u64,
) -> Result<Snapshot, Box<dyn std::error::Error>> {
    let mut snapshot = Snapshot::default();
    let capacity = Reservation { memory: Bytes::gib(64), cpu: Millicpu(32_000) };
    for n in 0..hosts {
        let host = Host { tags: BTreeMap::new(), capacity, state: HostState::Serving };
        snapshot.hosts.insert(format!("host{n}").parse()?, host);
    }
    let reservation = Reservation { memory: Bytes::mib(96), cpu: Millicpu(50) };
    for n in 0..jobs.div_ceil(per_app) {
        let id = format!("{n:08x}-0000-4000-8000-000000000000");
        let key = FormationKey { app: id.parse()?, release: id.parse()? };
        let count = u32::try_from(per_app)?;
        let web = Process { count, reservation, ..Process::default() };
        let processes = [("web".into(), web)].into();
        snapshot.formations.insert(key, Formation { processes, ..Formation::default() });
    }
    Ok(snapshot)
}
