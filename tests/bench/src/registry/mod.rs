//! discoverd beside etcd: three members each on loopback, every write on disk before it is answered, the
//! same 64 entries, one store under load at a time. What a client does is the same for both: a request
//! on a connection of its own, the next one when it is answered.

mod grpc;
mod load;
mod members;
mod store;

use std::time::Duration;

use anyhow::Context as _;

use crate::figures::Series;
use load::Load;
use members::Members;
use store::Kind;

/// Clients of the busy rounds, and entries there are.
const CLIENTS: usize = 64;
/// Services with heartbeats in the last part.
const INSTANCES: usize = 10_000;

/// What one store did in all rounds.
#[derive(Default)]
struct Figures {
    lone_writes: Series,
    writes: Series,
    reads: Series,
    /// Median and 99th percentile, milliseconds, with one watcher and with a hundred.
    watch: [(Series, Series); 2],
    /// Processor time of all members, µs: of one registration and of one read of the busy rounds. It
    /// means something on a busy machine too.
    write_cost: Series,
    read_cost: Series,
}

pub(crate) fn measure(rounds: usize, seconds: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .context("a runtime")
        .and_then(|runtime| runtime.block_on(run(rounds, Duration::from_secs(seconds))));
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

async fn run(rounds: usize, span: Duration) -> anyhow::Result<()> {
    let stores = [Members::start(Kind::Discoverd).await?, Members::start(Kind::Etcd).await?];
    let mut figures = [Figures::default(), Figures::default()];
    for number in 0..rounds {
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        round(&stores, &mut figures, span, order).await?;
    }
    tell(&figures);
    let [discoverd, etcd] = stores;
    drop(etcd);
    let load = Load::new(&discoverd, span * 2);
    load.register(INSTANCES).await?;
    let before = discoverd.processor_time();
    let answered = load.heartbeats(INSTANCES).await?;
    let share = (discoverd.processor_time() - before) / (span * 2).as_secs_f64();
    println!(
        "registry, {INSTANCES} instances: {answered:.0} heartbeats/s, three members take {share:.2} of a processor"
    );
    Ok(())
}

/// Each figure is taken of one store right after the other: the machine may be another one half a minute later.
async fn round(
    stores: &[Members; 2],
    figures: &mut [Figures; 2],
    span: Duration,
    order: [usize; 2],
) -> anyhow::Result<()> {
    let loads = stores.each_ref().map(|store| Load::new(store, span));
    let micros = |rate: f64, taken: f64| taken * 1e6 / (rate * span.as_secs_f64());
    for at in order {
        figures[at].lone_writes.add(loads[at].writes(1).await?);
    }
    for at in order {
        let before = stores[at].processor_time();
        let writes = loads[at].writes(CLIENTS).await?;
        figures[at].writes.add(writes);
        figures[at].write_cost.add(micros(writes, stores[at].processor_time() - before));
    }
    for at in order {
        let before = stores[at].processor_time();
        let reads = loads[at].reads(CLIENTS).await?;
        figures[at].reads.add(reads);
        figures[at].read_cost.add(micros(reads, stores[at].processor_time() - before));
    }
    for (number, watchers) in [1, 100].into_iter().enumerate() {
        for at in order {
            let (median, late) = loads[at].watch(watchers).await?;
            let series = &mut figures[at].watch[number];
            series.0.add(median);
            series.1.add(late);
        }
    }
    Ok(())
}

fn tell(figures: &[Figures; 2]) {
    let [ours, theirs] = figures;
    let line = |what: &str, unit: &str, of: &dyn Fn(&Figures) -> &Series| {
        let (ours, theirs) = (of(ours), of(theirs));
        println!("registry, {what}, discoverd: {}", ours.tell(unit));
        println!("registry, {what}, etcd: {}", theirs.tell(unit));
        println!("registry, {what}, ratio of medians: {:.2}", ours.median() / theirs.median());
        println!("registry, {what}, ratio round by round: {}", ours.over(theirs).tell("times"));
    };
    line("changed registrations of 1 client", "/s", &|figures| &figures.lone_writes);
    line("changed registrations of 64 clients", "/s", &|figures| &figures.writes);
    line("reads of 64 entries by 64 clients", "/s", &|figures| &figures.reads);
    line("processor time of one of 64 clients' registrations", "µs", &|figures| {
        &figures.write_cost
    });
    line("processor time of one read", "µs", &|figures| &figures.read_cost);
    line("median watch latency, 1 watcher", "ms", &|figures| &figures.watch[0].0);
    line("99th percentile, 1 watcher", "ms", &|figures| &figures.watch[0].1);
    line("median watch latency, 100 watchers", "ms", &|figures| &figures.watch[1].0);
    line("99th percentile, 100 watchers", "ms", &|figures| &figures.watch[1].1);
}
