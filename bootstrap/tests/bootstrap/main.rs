//! The bootstrap against hosts of cardboard: what is asked of them, in which order, and what a second
//! run does.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail where they stand")]

mod fake_host;
mod layer0;
mod secrets;

use bootstrap::{BootstrapError, Options, Outcome, Step, StepEvent};

/// A run and what it said.
pub(crate) struct Run {
    pub(crate) result: Result<Outcome, BootstrapError>,
    /// `state action id text` of every event.
    pub(crate) lines: Vec<String>,
    /// Everything it wrote, in both forms.
    pub(crate) output: String,
}

/// Runs the steps of layer 0; those after them need a whole platform, as in tests/cluster.
pub(crate) async fn run(options: Options) -> Run {
    let all = bootstrap::all_steps();
    let last = all.iter().position(|step| step.id == "wait-hosts").unwrap();
    run_these(&all[..=last], options).await
}

pub(crate) async fn run_these(steps: &[Step], options: Options) -> Run {
    let (mut lines, mut output) = (Vec::new(), String::new());
    let mut sink = |event: &StepEvent| {
        let state = serde_json::to_value(event.state).unwrap();
        let text = event.error.as_deref().or(event.data.as_ref().and_then(|data| data.as_str()));
        let words = [state.as_str(), Some(&event.action), Some(&event.id), text];
        lines.push(words.into_iter().flatten().collect::<Vec<_>>().join(" "));
        output += &format!("{}\n{}\n", event.text_line(), event.json_line());
    };
    let result = bootstrap::run_steps(steps, &options, &mut sink).await;
    Run { result, lines, output }
}

impl Run {
    /// The last line of a run that failed.
    pub(crate) fn failure(&self) -> &str {
        assert!(self.result.is_err(), "{:?}", self.lines);
        self.lines.last().unwrap()
    }

    pub(crate) fn succeed(self) -> (Outcome, Vec<String>) {
        match self.result {
            Ok(outcome) => (outcome, self.lines),
            Err(error) => panic!("{error:?}\n{:#?}", self.lines),
        }
    }
}
