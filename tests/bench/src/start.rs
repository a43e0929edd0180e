//! From asking for a job to its first instruction, the network included, beside `runc run`, which has no
//! network and no limits by default.

use std::time::Duration;

use anyhow::Context as _;
use cluster_tests::{Node, binaries, on_host};

use crate::figures::Series;
use crate::runc::Bundle;

/// Between two starts: neither pays for what the other one cleans up and prepares afterwards.
const PAUSE: Duration = Duration::from_millis(700);

/// Milliseconds of the clock that all processes of a machine share.
fn monotonic() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

fn stamp(text: &str) -> anyhow::Result<f64> {
    let nanoseconds: u64 = text.trim().parse().with_context(|| format!("no stamp in {text:?}"))?;
    Ok(nanoseconds as f64 / 1e6)
}

pub(crate) fn measure(rounds: usize) {
    on_host("bench", async |node| {
        let bundle = Bundle::new(&binaries()?.join("test-apps"), &["stamp"])?;
        let (mut ours, mut theirs) = (Series::default(), Series::default());
        for round in 0..=rounds {
            let our = job(&node).await?;
            tokio::time::sleep(PAUSE).await;
            let before = monotonic();
            let their = stamp(&bundle.run(&format!("round-{round}"))?)? - before;
            tokio::time::sleep(PAUSE).await;
            // The first of each fills caches.
            if round > 0 {
                ours.add(our);
                theirs.add(their);
            }
        }
        println!("start, request to first instruction: {}", ours.tell("ms"));
        println!("start, runc run to first instruction: {}", theirs.tell("ms"));
        println!("start, ratio of medians: {:.2}", ours.median() / theirs.median());
        Ok(())
    });
}

async fn job(node: &Node) -> anyhow::Result<f64> {
    let run = node.job(&["stamp"]).await?;
    let before = monotonic();
    let output = node.run(&run).await?;
    Ok(stamp(&output.text())? - before)
}
