//! Jobs: those that end again and again, those nobody starts again, those that find no host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::doctor::facts::{Facts, HostFacts, JobFacts, JobState};
use crate::doctor::finding::Finding;

/// Ends within this time are looked at together.
const RECENT: Duration = Duration::from_secs(600);
/// A job that ran this long was well; the host's own rule has the same number.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// So many quick ends are a loop.
const LOOP: usize = 3;
/// A host starts its jobs again after a minute at most; this long without one, it gave up.
const GIVEN_UP: Duration = Duration::from_secs(180);

type Type<'a> = (&'a str, &'a str);

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let loops = loops(facts);
    let looping: BTreeSet<Type<'_>> = loops.keys().copied().collect();
    let mut all: Vec<_> = loops.into_iter().map(|(kind, ends)| crash_loop(kind, &ends)).collect();
    all.extend(given_up(facts, &looping));
    all.extend(waiting(facts));
    all
}

/// Jobs that ended soon after their start and were not asked to, by app and process type over all hosts:
/// the scheduler may try each time another one.
fn loops(facts: &Facts) -> BTreeMap<Type<'_>, Vec<(&HostFacts, &JobFacts)>> {
    let mut ends: BTreeMap<Type<'_>, Vec<_>> = BTreeMap::new();
    for (host, answer) in facts.answering() {
        for job in answer.jobs.iter().filter(|job| ended_quickly(job)) {
            ends.entry((&job.app, &job.process)).or_default().push((host, job));
        }
    }
    ends.retain(|_, jobs| jobs.len() >= LOOP);
    ends
}

fn ended_quickly(job: &JobFacts) -> bool {
    let recent = job.state.ended_ago().is_some_and(|ago| ago < RECENT);
    job.kept && recent && !job.stopped && job.ran_for < WELL_AFTER
}

fn crash_loop((app, process): Type<'_>, ends: &[(&HostFacts, &JobFacts)]) -> Finding {
    let hosts: BTreeSet<_> = ends.iter().map(|(host, _)| host.name()).collect();
    let hosts: Vec<_> = hosts.into_iter().collect();
    let last = ends.iter().min_by_key(|(_, job)| job.state.ended_ago());
    let error = last.and_then(|(_, job)| job.error.as_ref());
    let seen = format!(
        "{app} {process} ended {} times within {} minutes of its start on {}{}",
        ends.len(),
        WELL_AFTER.as_secs() / 60,
        hosts.join(", "),
        error.map(|error| format!(", last: {error}")).unwrap_or_default(),
    );
    let found = Finding::warning("crash-loop", seen)
        .why("it is started again after growing pauses; until it stays, it does not serve");
    last.iter().fold(found, |found, (_, job)| found.next(format!("flynn-host log {}", job.id)))
}

fn given_up(facts: &Facts, looping: &BTreeSet<Type<'_>>) -> Vec<Finding> {
    let mut all = Vec::new();
    for (host, answer) in facts.answering() {
        let follows = |ended: &JobFacts| {
            answer.jobs.iter().any(|job| {
                job.predecessor.as_deref() == Some(&ended.id)
                    || (job.state == JobState::Active
                        && job.app == ended.app
                        && job.process == ended.process)
            })
        };
        let gone = answer.jobs.iter().filter(|job| {
            let long_ago = job.state.ended_ago().is_some_and(|ago| ago > GIVEN_UP);
            long_ago && job.resurrect && !job.stopped && !follows(job)
        });
        for job in gone.filter(|job| !looping.contains(&(job.app.as_str(), job.process.as_str()))) {
            let error = job.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let seen =
                format!("{} {} ended and was not started again{error}", job.app, job.process);
            let found = Finding::warning("job-given-up", seen)
                .on(host.name())
                .why("it belongs to this host, which starts it again after a minute at most")
                .next(format!("flynn-host log {}", job.id))
                .next_on(host.name(), "flynn-host start   # a new daemon starts what is missing");
            all.push(found);
        }
    }
    all
}

fn waiting(facts: &Facts) -> Vec<Finding> {
    let mut by_reason: BTreeMap<_, usize> = BTreeMap::new();
    for job in &facts.platform.waiting {
        *by_reason.entry((&job.app, &job.process, &job.reason)).or_default() += 1;
    }
    let finding = |((app, process, reason), count): ((&String, &String, &String), usize)| {
        let jobs = if count == 1 { "job waits" } else { "jobs wait" };
        Finding::warning(
            "job-waits",
            format!("{count} {jobs} for a host: {app} {process}: {reason}"),
        )
        .why("no host takes it as things are")
        .next(format!("flynn -a {app} ps"))
    };
    by_reason.into_iter().map(finding).collect()
}
