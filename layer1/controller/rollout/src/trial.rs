//! Whether a step has worked: from what is seen of the new release's jobs to a verdict. Times come in
//! as durations, measured by whoever looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::ProcessCounts;

/// More jobs than this that end within one step fail it.
pub const TOLERATED_ENDS: usize = 5;

/// What a step has to achieve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The counts of the formation that was scaled.
    pub wanted: ProcessCounts,
    /// How long the step may take.
    pub timeout: Duration,
    /// Process types whose jobs have not shown yet that they stay up.
    pub on_trial: BTreeSet<String>,
    /// How long they have to.
    pub probation: Duration,
    /// What a job of a type that runs and is not up still owes, in words for people.
    pub owed: BTreeMap<String, String>,
}

/// What is seen of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What became of the scale request.
    pub request: RequestPhase,
    /// How long ago it was made.
    pub age: Duration,
    /// How long ago its state last changed.
    pub unchanged: Duration,
    /// Jobs of the release: those that are there, and those that ended since the request was made.
    pub jobs: Vec<SeenJob>,
}

/// What became of a scale request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPhase {
    /// The scheduler works on it.
    Pending,
    /// What was wanted runs.
    Complete,
    /// Somebody withdrew it.
    Cancelled,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenJob {
    /// Its process type.
    pub process_type: String,
    /// How far it is.
    pub phase: JobPhase,
    /// How long ago that began.
    pub since: Duration,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// No host has confirmed it.
    Pending,
    /// Its program starts, or runs without being up.
    Starting,
    /// It is up.
    Up,
    /// It was told to end, and may have ended: nothing that counts against it.
    Told,
    /// It ended by itself.
    Ended {
        /// It had been up.
        was_up: bool,
        /// How, in words for people.
        reason: String,
    },
}

/// What to make of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has worked.
    Settled,
    /// It is too early to tell.
    Waiting,
    /// It has failed.
    Failed(StepFailure),
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepFailure {
    /// Jobs end again and again before they are up.
    #[error("{process_type} job failed to start: {reason}")]
    DoesNotStart {
        /// The type of the job that ended last.
        process_type: String,
        /// How it ended.
        reason: String,
    },
    /// Jobs end again and again after they came up.
    #[error("{process_type} job did not stay up: {reason}")]
    DoesNotStay {
        /// The type of the job that ended last.
        process_type: String,
        /// How it ended.
        reason: String,
    },
    /// Time is up.
    #[error("timed out waiting for scale to complete (waited {} seconds){}", .waited.as_secs(), listed(.missing))]
    TooLate {
        /// How long was waited.
        waited: Duration,
        /// What was still missing.
        missing: Vec<Missing>,
    },
    /// Somebody withdrew the scale request.
    #[error("scale request cancelled")]
    Cancelled,
}

/// A process type that did not get there in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The type.
    pub process_type: String,
    /// How many are up.
    pub up: usize,
    /// How many should be.
    pub wanted: u32,
    /// What the others lack.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process_type, up, wanted, why } = self;
        write!(f, "{up} of {wanted} {process_type} up: {why}")
    }
}

fn listed(missing: &[Missing]) -> String {
    let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) }
}

/// Judges a step that scaled the new release.
pub fn judge(terms: &Terms, sight: &Sight) -> Verdict {
    if let Some(failure) = too_many_ends(sight) {
        return Verdict::Failed(failure);
    }
    let on_trial = !terms.on_trial.is_empty();
    let limit = if on_trial { terms.timeout + terms.probation } else { terms.timeout };
    match sight.request {
        RequestPhase::Cancelled => Verdict::Failed(StepFailure::Cancelled),
        RequestPhase::Complete if !on_trial || has_proven_itself(terms, sight) => Verdict::Settled,
        RequestPhase::Complete if sight.age < limit => Verdict::Waiting,
        RequestPhase::Pending if sight.age < terms.timeout => Verdict::Waiting,
        RequestPhase::Pending | RequestPhase::Complete => Verdict::Failed(too_late(terms, sight)),
    }
}

/// All jobs on trial are up, and nothing has changed for the time of probation.
fn has_proven_itself(terms: &Terms, sight: &Sight) -> bool {
    let quiet = |job: &SeenJob| match &job.phase {
        JobPhase::Told => true,
        JobPhase::Up | JobPhase::Ended { .. } => job.since >= terms.probation,
        JobPhase::Pending | JobPhase::Starting => false,
    };
    let mut judged = sight.jobs.iter().filter(|job| terms.on_trial.contains(&job.process_type));
    sight.unchanged >= terms.probation
        && judged.all(quiet)
        && terms.on_trial.iter().all(|name| up(sight, name) >= wanted(terms, name))
}

fn too_many_ends(sight: &Sight) -> Option<StepFailure> {
    let ended = sight.jobs.iter().filter_map(|job| match &job.phase {
        JobPhase::Ended { was_up, reason } => Some((job, *was_up, reason)),
        JobPhase::Pending | JobPhase::Starting | JobPhase::Up | JobPhase::Told => None,
    });
    let ended: Vec<_> = ended.collect();
    if ended.len() <= TOLERATED_ENDS {
        return None;
    }
    let (job, was_up, reason) = ended.into_iter().min_by_key(|(job, ..)| job.since)?;
    let (process_type, reason) = (job.process_type.clone(), reason.clone());
    Some(if was_up {
        StepFailure::DoesNotStay { process_type, reason }
    } else {
        StepFailure::DoesNotStart { process_type, reason }
    })
}

fn too_late(terms: &Terms, sight: &Sight) -> StepFailure {
    let names = terms.wanted.iter().filter(|(_, count)| **count > 0);
    let missing = names.filter_map(|(name, count)| {
        let up = up(sight, name);
        let why = why_not_up(terms, sight, name);
        (up < *count as usize || terms.on_trial.contains(name)).then(|| Missing {
            process_type: name.clone(),
            up,
            wanted: *count,
            why,
        })
    });
    StepFailure::TooLate { waited: sight.age, missing: missing.collect() }
}

/// What the jobs of a type lack, by the one that came farthest.
fn why_not_up(terms: &Terms, sight: &Sight, name: &str) -> String {
    let jobs: Vec<&SeenJob> = sight.jobs.iter().filter(|job| job.process_type == name).collect();
    let last_end = jobs.iter().filter_map(|job| match &job.phase {
        JobPhase::Ended { reason, .. } => Some((job.since, reason)),
        JobPhase::Pending | JobPhase::Starting | JobPhase::Up | JobPhase::Told => None,
    });
    if let Some((_, reason)) = last_end.min_by_key(|(since, _)| *since) {
        return format!("the last one that ended: {reason}");
    }
    if jobs.iter().any(|job| job.phase == JobPhase::Starting) {
        let owed = terms.owed.get(name).map(String::as_str);
        return owed.unwrap_or("the program has not started yet").to_owned();
    }
    if jobs.iter().any(|job| job.phase == JobPhase::Pending) {
        return "no host has started it yet".to_owned();
    }
    "no host has taken it: `flynn -a scheduler log` says why".to_owned()
}

fn up(sight: &Sight, name: &str) -> usize {
    let is_up = |job: &&SeenJob| job.process_type == name && job.phase == JobPhase::Up;
    sight.jobs.iter().filter(is_up).count()
}

fn wanted(terms: &Terms, name: &str) -> usize {
    terms.wanted.get(name).copied().unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms() -> Terms {
        Terms {
            wanted: [("web".to_owned(), 2)].into(),
            timeout: 30 * SECOND,
            on_trial: ["web".to_owned()].into(),
            probation: 5 * SECOND,
            owed: [("web".to_owned(), "nothing accepts connections on port 80".to_owned())].into(),
        }
    }

    fn job(phase: JobPhase, seconds: u32) -> SeenJob {
        SeenJob { process_type: "web".to_owned(), phase, since: seconds * SECOND }
    }

    fn ended(was_up: bool, seconds: u32) -> SeenJob {
        job(JobPhase::Ended { was_up, reason: format!("exit {seconds}") }, seconds)
    }

    fn sight(request: RequestPhase, age: u32, unchanged: u32, jobs: Vec<SeenJob>) -> Sight {
        Sight { request, age: age * SECOND, unchanged: unchanged * SECOND, jobs }
    }

    fn failure(sight: &Sight) -> String {
        match judge(&terms(), sight) {
            Verdict::Failed(failure) => failure.to_string(),
            verdict @ (Verdict::Settled | Verdict::Waiting) => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn the_sixth_end_is_one_too_many_and_the_last_one_is_told() {
        let mut jobs: Vec<_> = (1..=5).map(|at| ended(false, at)).collect();
        assert_eq!(
            judge(&terms(), &sight(RequestPhase::Pending, 9, 9, jobs.clone())),
            Verdict::Waiting
        );
        jobs.push(job(JobPhase::Told, 0));
        assert_eq!(
            judge(&terms(), &sight(RequestPhase::Pending, 9, 9, jobs.clone())),
            Verdict::Waiting
        );
        jobs.push(ended(false, 6));
        let told = failure(&sight(RequestPhase::Pending, 9, 9, jobs.clone()));
        assert_eq!(told, "web job failed to start: exit 1");
        jobs.push(ended(true, 0));
        let told = failure(&sight(RequestPhase::Complete, 9, 9, jobs));
        assert_eq!(told, "web job did not stay up: exit 0");
    }

    #[test]
    fn new_types_have_to_stay_up_for_a_while() {
        let up = |seconds| vec![job(JobPhase::Up, seconds), job(JobPhase::Up, seconds)];
        let complete = |unchanged, jobs| sight(RequestPhase::Complete, 9, unchanged, jobs);
        assert_eq!(judge(&terms(), &complete(4, up(4))), Verdict::Waiting);
        assert_eq!(judge(&terms(), &complete(5, up(5))), Verdict::Settled);
        assert_eq!(judge(&terms(), &complete(5, up(5)[..1].to_vec())), Verdict::Waiting);
        let mut replaced = up(9);
        replaced.push(ended(true, 4));
        assert_eq!(judge(&terms(), &complete(9, replaced)), Verdict::Waiting);
        let proven = Terms { on_trial: BTreeSet::new(), ..terms() };
        assert_eq!(judge(&proven, &complete(0, vec![])), Verdict::Settled);
    }

    #[test]
    fn a_step_that_takes_too_long_says_what_is_missing() {
        let late = |jobs| failure(&sight(RequestPhase::Pending, 30, 30, jobs));
        let begin = "timed out waiting for scale to complete (waited 30 seconds): ";
        for (jobs, why) in [
            (
                vec![job(JobPhase::Up, 9), job(JobPhase::Starting, 9)],
                "1 of 2 web up: nothing accepts connections on port 80",
            ),
            (vec![job(JobPhase::Pending, 9)], "0 of 2 web up: no host has started it yet"),
            (
                vec![job(JobPhase::Starting, 9), ended(false, 3)],
                "0 of 2 web up: the last one that ended: exit 3",
            ),
            (vec![], "0 of 2 web up: no host has taken it: `flynn -a scheduler log` says why"),
        ] {
            assert_eq!(late(jobs), format!("{begin}{why}"));
        }
        assert_eq!(
            failure(&sight(RequestPhase::Cancelled, 1, 1, vec![])),
            "scale request cancelled"
        );
    }
}
