//! A batch scheduler: runs a number of equal jobs on whatever room the hosts have left, beside Flynn's own
//! scheduler and any other. `cargo run -p scheduler --example batch -- JOB.json COUNT HOST-URL…`, where
//! JOB.json is the body of `PUT /host/jobs/ID` without an id. docs/howto/scheduler.md explains it.
//!
//! Nobody hands out shares. A host's answer is the truth: 200 means that the room is ours, 409 that
//! somebody was faster, and then its detail says what is left. What is remembered of a host is a guess
//! that saves requests; it may be wrong at any time without harm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controller_api::reserved;
use host_api::{ActiveJob, HostClient, Job, Refusal, ResourceKind};
use kit_backoff::Backoff;
use kit_http::{ClientError, ErrorCode};
use kit_ids::{HostId, JobId};

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Jobs that ended.
    pub(crate) ended: usize,
    /// How often a host said no because somebody else was faster.
    pub(crate) refused: usize,
}

/// A host, and the room it is believed to have.
struct Host {
    id: HostId,
    client: HostClient,
    memory: u64,
    cpu: u64,
}

/// Where a job stands.
enum Standing {
    Waiting,
    /// Given to a host. It keeps its id until that host said no, whatever becomes of the answer.
    On(JobId),
    Ended,
}

/// Runs `count` jobs like `template` and answers when the last one has ended.
pub(crate) async fn run(urls: &[String], template: &Job, count: usize) -> anyhow::Result<Outcome> {
    let clients: Vec<HostClient> =
        urls.iter().map(|url| HostClient::new(url)).collect::<Result<_, _>>()?;
    let mut batch: BTreeMap<String, Standing> =
        (0..count).map(|_| (uuid::Uuid::new_v4().to_string(), Standing::Waiting)).collect();
    let mut outcome = Outcome::default();
    // Jittered, so that two who got into each other's way do not meet again; short after progress.
    let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), rand::random());
    while outcome.ended < count {
        let (mut hosts, jobs) = look(&clients).await;
        let before = outcome.ended;
        outcome.ended += note_ends(&mut batch, &hosts, &jobs);
        let placed = place(&mut batch, &mut hosts, template, &mut outcome).await;
        if placed > 0 || outcome.ended > before {
            pause.reset();
        }
        tokio::time::sleep(pause.next_delay()).await;
    }
    Ok(outcome)
}

/// What every host has left and what it runs. One that is away has nothing to give in this round.
async fn look(clients: &[HostClient]) -> (Vec<Host>, BTreeMap<JobId, ActiveJob>) {
    let (mut hosts, mut jobs) = (Vec::new(), BTreeMap::new());
    for client in clients {
        let (Ok(status), Ok(listed)) = (client.status().await, client.jobs().await) else {
            continue;
        };
        let Some(has) = status.resources else { continue };
        hosts.push(Host {
            id: status.id,
            client: client.clone(),
            memory: has.memory.total.saturating_sub(has.memory.reserved),
            cpu: has.cpu.total.saturating_sub(has.cpu.reserved),
        });
        jobs.extend(listed);
    }
    (hosts, jobs)
}

/// A job has ended when its host says so, or answers and does not know it.
fn note_ends(
    batch: &mut BTreeMap<String, Standing>,
    hosts: &[Host],
    jobs: &BTreeMap<JobId, ActiveJob>,
) -> usize {
    let answer: BTreeSet<&str> = hosts.iter().map(|host| host.id.as_str()).collect();
    let mut ended = 0;
    for standing in batch.values_mut() {
        let Standing::On(id) = &*standing else { continue };
        let is_over =
            jobs.get(id).map_or(answer.contains(id.host_part()), |job| job.status.has_ended());
        if is_over {
            *standing = Standing::Ended;
            ended += 1;
        }
    }
    ended
}

/// Gives waiting jobs to hosts, the roomiest first, until nobody has room. Answers how many were taken.
async fn place(
    batch: &mut BTreeMap<String, Standing>,
    hosts: &mut [Host],
    template: &Job,
    outcome: &mut Outcome,
) -> usize {
    let (memory, cpu) = reserved(&template.resources);
    let mut placed = 0;
    for (name, standing) in batch.iter_mut() {
        while let Standing::Waiting = standing {
            let fitting = hosts.iter_mut().filter(|host| host.memory >= memory && host.cpu >= cpu);
            let Some(host) = fitting.max_by_key(|host| host.memory) else { return placed };
            let Ok(id) = format!("{}-{name}", host.id).parse::<JobId>() else { return placed };
            let job = Job { id: id.clone(), ..template.clone() };
            match host.client.add_job(&job).await {
                Ok(()) => {
                    (host.memory, host.cpu) = (host.memory - memory, host.cpu - cpu);
                    *standing = Standing::On(id);
                    placed += 1;
                }
                Err(error) if error.api_code().is_some() => learn(host, &error, outcome),
                // It may have heard us: the job stays on it until it answers.
                Err(_) => {
                    host.memory = 0;
                    *standing = Standing::On(id);
                }
            }
        }
    }
    placed
}

/// A host's no, with what it has left; without figures (busy, full disk) it is left alone for this round.
fn learn(host: &mut Host, error: &ClientError, outcome: &mut Outcome) {
    let detail = error.api().and_then(|answer| answer.detail.clone());
    let refusal = detail.and_then(|detail| serde_json::from_value::<Refusal>(detail).ok());
    match refusal {
        Some(Refusal { resource: ResourceKind::Memory, available, .. }) => host.memory = available,
        Some(Refusal { resource: ResourceKind::Cpu, available, .. }) => host.cpu = available,
        Some(_) | None => host.memory = 0,
    }
    outcome.refused += usize::from(error.api_code() == Some(ErrorCode::Conflict));
}

#[tokio::main]
#[cfg_attr(not(test), expect(clippy::print_stdout, reason = "the answer of a program"))]
#[cfg_attr(test, expect(dead_code, reason = "the test has a main of its own"))]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(count)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: batch JOB.json COUNT HOST-URL…");
    };
    let mut body: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    body["id"] = "any-0".into();
    let outcome =
        run(&args.collect::<Vec<_>>(), &serde_json::from_value(body)?, count.parse()?).await?;
    println!("{} jobs ended; hosts refused {} times", outcome.ended, outcome.refused);
    Ok(())
}
