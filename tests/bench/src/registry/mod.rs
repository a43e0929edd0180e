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
    for _ in 0..rounds {
        for (store, figures) in stores.iter().zip(&mut figures) {
            round(store, figures, span).await?;
        }
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

async fn round(store: &Members, figures: &mut Figures, span: Duration) -> anyhow::Result<()> {
    let load = Load::new(store, span);
    let micros = |rate: f64, taken: f64| taken * 1e6 / (rate * span.as_secs_f64());
    figures.lone_writes.add(load.writes(1).await?);
    let before = store.processor_time();
    let writes = load.writes(CLIENTS).await?;
    figures.writes.add(writes);
    figures.write_cost.add(micros(writes, store.processor_time() - before));
    let before = store.processor_time();
    let reads = load.reads(CLIENTS).await?;
    figures.reads.add(reads);
    figures.read_cost.add(micros(reads, store.processor_time() - before));
    for (series, watchers) in figures.watch.iter_mut().zip([1, 100]) {
        let (median, late) = load.watch(watchers).await?;
        series.0.add(median);
        series.1.add(late);
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
