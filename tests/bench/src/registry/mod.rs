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
/// How many watch at once.
const WATCHERS: [usize; 2] = [1, 100];
/// How many of a hundred writes are seen earlier than what is called late.
const LATE: usize = 99;

/// What one store did in all rounds.
#[derive(Default)]
struct Figures {
    lone_writes: Series,
    writes: Series,
    reads: Series,
    /// With one watcher and with a hundred.
    watch: [Watch; 2],
    /// Processor time of all members, µs: of one registration and of one read of the busy rounds. It
    /// means something on a busy machine too.
    write_cost: Series,
    read_cost: Series,
}

/// Watch latencies, milliseconds.
#[derive(Default)]
struct Watch {
    /// Of each round.
    median: Series,
    late: Series,
    /// Of every write of all rounds: two or three writes of a round decide its 99th percentile.
    all: Series,
}

impl Watch {
    fn add(&mut self, round: &Series) {
        self.median.add(round.median());
        self.late.add(round.percentile(LATE));
        self.all.append(round);
    }
}

pub(crate) fn measure(rounds: usize, seconds: u64, only_watch: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("a runtime").and_then(|runtime| {
        runtime.block_on(run(rounds, Duration::from_secs(seconds), only_watch))
    });
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

async fn run(rounds: usize, span: Duration, only_watch: bool) -> anyhow::Result<()> {
    let mut stores = [Members::start(Kind::Discoverd).await?, Members::start(Kind::Etcd).await?];
    for store in &stores {
        Load::new(store, span).prepare().await?;
        store.stand_still()?;
    }
    let crowds = if only_watch { &WATCHERS[..1] } else { &WATCHERS };
    let mut figures = [Figures::default(), Figures::default()];
    for number in 0..rounds {
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        if !only_watch {
            throughput(&mut stores, span, &mut figures, order).await?;
        }
        for (crowd, watchers) in crowds.iter().enumerate() {
            for at in order {
                let series = turn(&mut stores[at], span).await?.watch(*watchers).await?;
                figures[at].watch[crowd].add(&series);
                stores[at].stand_still()?;
            }
        }
    }
    if !only_watch {
        tell_throughput(&figures);
    }
    (0..crowds.len()).for_each(|crowd| tell_watch(&figures, crowd));
    let [mut discoverd, etcd] = stores;
    drop(etcd);
    if !only_watch {
        discoverd.go_on().await?;
        heartbeats(&discoverd, span * 2).await?;
    }
    Ok(())
}

/// From here on only this store runs.
async fn turn(store: &mut Members, span: Duration) -> anyhow::Result<Load> {
    store.go_on().await?;
    Ok(Load::new(store, span))
}

/// Processor time of many instances that only say that they are there.
async fn heartbeats(discoverd: &Members, span: Duration) -> anyhow::Result<()> {
    let load = Load::new(discoverd, span);
    load.register(INSTANCES).await?;
    let before = discoverd.processor_time();
    let answered = load.heartbeats(INSTANCES).await?;
    let share = (discoverd.processor_time() - before) / span.as_secs_f64();
    println!(
        "registry, {INSTANCES} instances: {answered:.0} heartbeats/s, three members take {share:.2} of a processor"
    );
    Ok(())
}

/// Each figure is taken of one store right after the other: the machine may be another one half a minute later.
async fn throughput(
    stores: &mut [Members; 2],
    span: Duration,
    figures: &mut [Figures; 2],
    order: [usize; 2],
) -> anyhow::Result<()> {
    for at in order {
        figures[at].lone_writes.add(turn(&mut stores[at], span).await?.writes(1).await?);
        stores[at].stand_still()?;
    }
    for at in order {
        let load = turn(&mut stores[at], span).await?;
        let before = stores[at].processor_time();
        let writes = load.writes(CLIENTS).await?;
        figures[at].writes.add(writes);
        figures[at].write_cost.add(load.micros(writes, stores[at].processor_time() - before));
        stores[at].stand_still()?;
    }
    for at in order {
        let load = turn(&mut stores[at], span).await?;
        let before = stores[at].processor_time();
        let reads = load.reads(CLIENTS).await?;
        figures[at].reads.add(reads);
        figures[at].read_cost.add(load.micros(reads, stores[at].processor_time() - before));
        stores[at].stand_still()?;
    }
    Ok(())
}

fn tell_throughput(figures: &[Figures; 2]) {
    compare(figures, "changed registrations of 1 client", "/s", |figures| &figures.lone_writes);
    compare(figures, "changed registrations of 64 clients", "/s", |figures| &figures.writes);
    compare(figures, "reads of 64 entries by 64 clients", "/s", |figures| &figures.reads);
    let what = "processor time of one of 64 clients' registrations";
    compare(figures, what, "µs", |figures| &figures.write_cost);
    compare(figures, "processor time of one read", "µs", |figures| &figures.read_cost);
}

/// The latencies of one of [`WATCHERS`].
fn tell_watch(figures: &[Figures; 2], crowd: usize) {
    let watchers = WATCHERS[crowd];
    let name = |what: &str| format!("{what}, watchers: {watchers}");
    compare(figures, &name("median watch latency"), "ms", |figures| &figures.watch[crowd].median);
    compare(figures, &name("99th percentile"), "ms", |figures| &figures.watch[crowd].late);
    let all = figures.each_ref().map(|figures| &figures.watch[crowd].all);
    for share in [50, LATE] {
        let [ours, theirs] = all.map(|all| all.percentile(share));
        let what = name(&format!("percentile {share} of all rounds' writes"));
        println!("registry, {what}: {ours:.2} ms, etcd {theirs:.2} ms, ratio {:.2}", ours / theirs);
    }
}

fn compare(figures: &[Figures; 2], what: &str, unit: &str, of: impl Fn(&Figures) -> &Series) {
    let [ours, theirs] = figures.each_ref().map(of);
    println!("registry, {what}, discoverd: {}", ours.tell(unit));
    println!("registry, {what}, etcd: {}", theirs.tell(unit));
    println!("registry, {what}, ratio of medians: {:.2}", ours.median() / theirs.median());
    println!("registry, {what}, ratio round by round: {}", ours.over(theirs).tell("times"));
}
