//! Clients that do one thing after the other for a while, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::CLIENTS;
use super::members::{MEMBERS, Members, ip};
use super::store::{Client, Kind};
use crate::figures::Series;

/// Between two writes while watchers look.
const BEAT: Duration = Duration::from_millis(10);
/// Connections that carry the heartbeats of all instances.
const CARRIERS: usize = 16;
/// How often an instance is heard of (spec/discoverd.md §6).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Stands before the stamp in what both stores send to watchers.
const MARK: &[u8] = b"\"at\":\"";
/// Digits of a stamp.
const DIGITS: usize = 20;

/// Load on one store.
pub(crate) struct Load {
    kind: Kind,
    leader: usize,
    span: Duration,
    /// Stamps count from here.
    started: Instant,
}

impl Load {
    pub(crate) fn new(members: &Members, span: Duration) -> Self {
        Self { kind: members.kind, leader: members.leader, span, started: Instant::now() }
    }

    /// Before all else, once for a store.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        Client::connect(self.kind, ip(self.leader)).await?.prepare().await
    }

    /// Changed registrations a second at the leader.
    pub(crate) async fn writes(&self, clients: usize) -> anyhow::Result<f64> {
        let leader = self.leader;
        let started = self.started;
        self.rate(
            clients,
            move |_| leader,
            async move |client: &mut Client, number| client.write(number, &stamp(started)).await,
        )
        .await
    }

    /// Reads of all entries a second, spread over the members.
    pub(crate) async fn reads(&self, clients: usize) -> anyhow::Result<f64> {
        let mut keeper = Client::connect(self.kind, ip(self.leader)).await?;
        register_all(&mut keeper).await?;
        let reads = self.rate(
            clients,
            |number| number % MEMBERS,
            async |client: &mut Client, _| {
                let length = client.read().await?;
                ensure!(length > CLIENTS * DIGITS, "{length} bytes are not all entries");
                Ok(())
            },
        );
        // Entries of discoverd end without heartbeats, etcd's stay.
        let kept = async {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                if self.kind == Kind::Discoverd {
                    register_all(&mut keeper).await?;
                }
            }
        };
        tokio::select! {
            rate = reads => rate,
            failed = kept => failed,
        }
    }

    /// What one request cost at such a rate, µs, when all took so many seconds of processor time.
    pub(crate) fn micros(&self, rate: f64, taken: f64) -> f64 {
        taken * 1e6 / (rate * self.span.as_secs_f64())
    }

    async fn rate(
        &self,
        clients: usize,
        member: impl Fn(usize) -> usize,
        work: impl AsyncFn(&mut Client, usize) -> anyhow::Result<()> + Clone + Send + 'static,
    ) -> anyhow::Result<f64> {
        let done = Arc::new(AtomicUsize::new(0));
        let until = Instant::now() + self.span;
        let tasks = tokio::task::LocalSet::new();
        let mut all = Vec::new();
        for number in 0..clients {
            let mut client = Client::connect(self.kind, ip(member(number))).await?;
            let (work, done) = (work.clone(), done.clone());
            all.push(tasks.spawn_local(async move {
                while Instant::now() < until {
                    work(&mut client, number).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            }));
        }
        tasks.await;
        for task in all {
            task.await??;
        }
        Ok(done.load(Ordering::Relaxed) as f64 / self.span.as_secs_f64())
    }

    /// From before each write to its arrival at each watcher, milliseconds. Watchers are at all members
    /// alike, a single one at each for a third of the time: at the leader a change is seen earlier.
    pub(crate) async fn watch(&self, watchers: usize) -> anyhow::Result<Series> {
        let places = if watchers < MEMBERS { MEMBERS } else { 1 };
        let mut all = Series::default();
        for first in 0..places {
            let span = self.span / u32::try_from(places)?;
            self.watch_from(watchers, self.leader + first, span, &mut all).await?;
        }
        ensure!(!all.is_empty(), "no change was seen");
        Ok(all)
    }

    /// What every change took to every watcher, the first of which is at this member, the second at the next.
    async fn watch_from(
        &self,
        watchers: usize,
        first: usize,
        span: Duration,
        all: &mut Series,
    ) -> anyhow::Result<()> {
        let mut streams = Vec::new();
        for number in 0..watchers {
            let mut client = Client::connect(self.kind, ip((first + number) % MEMBERS)).await?;
            streams.push((client.watch().await?, client));
        }
        let mut writer = Client::connect(self.kind, ip(self.leader)).await?;
        let from = self.started.elapsed();
        let until = from + span;
        let mut tasks = JoinSet::new();
        for (changes, client) in streams {
            let started = self.started;
            tasks.spawn(async move {
                let times = arrivals(changes, started, (from, until)).await;
                drop(client);
                times
            });
        }
        while self.started.elapsed() < until {
            writer.write(0, &stamp(self.started)).await?;
            tokio::time::sleep(BEAT).await;
        }
        // This one ends the watchers.
        writer.write(0, &stamp(self.started)).await?;
        while let Some(times) = tasks.join_next().await {
            times??.into_iter().for_each(|time| all.add(time));
        }
        Ok(())
    }

    /// Registers so many instances.
    pub(crate) async fn register(&self, instances: usize) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for carrier in 0..CARRIERS {
            let mut client = Client::connect(self.kind, ip(self.leader)).await?;
            tasks.spawn(async move {
                for number in (carrier..instances).step_by(CARRIERS) {
                    client.write(number, "0").await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Heartbeats answered a second, of registered instances each heard of as often as clients do.
    pub(crate) async fn heartbeats(&self, instances: usize) -> anyhow::Result<f64> {
        let (mut tasks, until) = (JoinSet::new(), Instant::now() + self.span);
        for carrier in 0..CARRIERS {
            let mut client = Client::connect(self.kind, ip(self.leader)).await?;
            tasks.spawn(async move {
                let own: Vec<_> = (carrier..instances).step_by(CARRIERS).collect();
                let mut ticks = tokio::time::interval(HEARTBEAT / u32::try_from(own.len())?);
                let mut sent = 0_usize;
                for number in own.iter().cycle() {
                    ticks.tick().await;
                    if Instant::now() > until {
                        break;
                    }
                    client.write(*number, "0").await?;
                    sent += 1;
                }
                anyhow::Ok(sent)
            });
        }
        let mut sent = 0;
        while let Some(one) = tasks.join_next().await {
            sent += one??;
        }
        Ok(sent as f64 / self.span.as_secs_f64())
    }
}

/// What readers look for.
async fn register_all(client: &mut Client) -> anyhow::Result<()> {
    for number in 0..CLIENTS {
        client.write(number, &format!("{:0DIGITS$}", 0)).await?;
    }
    Ok(())
}

/// Nanoseconds since the start, in as many digits as the largest has.
fn stamp(started: Instant) -> String {
    format!("{:0DIGITS$}", started.elapsed().as_nanos())
}

/// Milliseconds every change took that was written from the first of these times on; ends with one that was
/// written after the second.
async fn arrivals(
    mut changes: Incoming,
    started: Instant,
    (from, until): (Duration, Duration),
) -> anyhow::Result<Vec<f64>> {
    let (mut times, mut rest) = (Vec::new(), Vec::new());
    loop {
        let frame = changes.frame().await.context("the stream ended")??;
        let now = started.elapsed();
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some((written, end)) = next_stamp(&rest) {
            rest.drain(..end);
            if written > until {
                return Ok(times);
            }
            if written > from {
                times.push(now.saturating_sub(written).as_secs_f64() * 1e3);
            }
        }
    }
}

/// The first whole stamp and where it ends.
fn next_stamp(text: &[u8]) -> Option<(Duration, usize)> {
    let start = text.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = text.get(start..start + DIGITS)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((Duration::from_nanos(number), start + DIGITS))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::next_stamp;

    #[test]
    fn stamps_are_found_wherever_a_chunk_ends() {
        let text = br#"x{"at":"00000000000000000042","#;
        assert_eq!(next_stamp(text), Some((Duration::from_nanos(42), text.len() - 2)));
        for end in 0..text.len() - 2 {
            assert_eq!(next_stamp(&text[..end]), None, "{end}");
        }
    }
}
