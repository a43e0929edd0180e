//! What people and scripts see of a run: one line an event, as text or as JSON
//! (spec/platform.md §4.1).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What happened to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It began.
    Start,
    /// Something worth telling.
    Info,
    /// It is done.
    Done,
    /// It failed, and with it the run.
    Error,
}

/// One line of the output. Data never holds secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// The step.
    pub id: String,
    /// The kind of step.
    pub action: String,
    /// What it found or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// What happened.
    pub state: StepState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    pub ts: DateTime<Utc>,
}

/// What is said of a step that an earlier run has done.
pub(crate) const DONE_BEFORE: &str = "done before";

/// Whoever wants to see events.
pub trait Sink {
    /// Something happened.
    fn event(&mut self, event: &StepEvent);
}

impl<F: FnMut(&StepEvent)> Sink for F {
    fn event(&mut self, event: &StepEvent) {
        self(event);
    }
}

impl StepEvent {
    /// The line for people.
    pub fn text_line(&self) -> String {
        let Self { id, action, .. } = self;
        let what = match (self.state, &self.error, self.data.as_ref().and_then(|d| d.as_str())) {
            (StepState::Error, error, _) => {
                format!("{action} {id} error: {}", error.as_deref().unwrap_or_default())
            }
            (StepState::Info, _, Some(text)) => format!("{action} {text}"),
            (StepState::Done | StepState::Start, _, Some(text)) => format!("{action} {id} {text}"),
            (StepState::Info | StepState::Done | StepState::Start, _, None) => {
                format!("{action} {id}")
            }
        };
        format!("{} {what}", self.ts.format("%H:%M:%S%.6f"))
    }

    /// The line for programs.
    pub fn json_line(&self) -> String {
        // Texts and a checked value: there is nothing in it that JSON cannot say.
        serde_json::to_string(&Line { event: self }).unwrap_or_default()
    }

    /// Whether a person should see it: the end of a step without a result says nothing new, nor does a
    /// step that was done before.
    pub fn is_news(&self) -> bool {
        let has_text = self.data.as_ref().is_some_and(serde_json::Value::is_string);
        !self.was_done_before() && (self.state != StepState::Done || has_text)
    }

    /// Whether an earlier run has done the step.
    pub fn was_done_before(&self) -> bool {
        self.data.as_ref().and_then(|data| data.as_str()) == Some(DONE_BEFORE)
    }
}

/// The JSON form, with the time as the original writes it.
struct Line<'a> {
    event: &'a StepEvent,
}

impl Serialize for Line<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let StepEvent { id, action, data, state, error, ts } = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", id)?;
        map.serialize_entry("action", action)?;
        if let Some(data) = data {
            map.serialize_entry("data", data)?;
        }
        map.serialize_entry("state", state)?;
        if let Some(error) = error {
            map.serialize_entry("error", error)?;
        }
        map.serialize_entry("ts", &ts.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(state: StepState, data: Option<&str>, error: Option<&str>) -> StepEvent {
        StepEvent {
            id: "controller-cert".to_owned(),
            action: "gen-tls-cert".to_owned(),
            data: data.map(Into::into),
            state,
            error: error.map(str::to_owned),
            ts: DateTime::from_timestamp(1_600_000_000, 123_456_000).unwrap(),
        }
    }

    #[test]
    fn lines_have_the_documented_forms() {
        for (event, text, json) in [
            (
                event(StepState::Start, None, None),
                "12:26:40.123456 gen-tls-cert controller-cert",
                r#"{"id":"controller-cert","action":"gen-tls-cert","state":"start","ts":"2020-09-13T12:26:40.123456Z"}"#,
            ),
            (
                event(StepState::Done, Some("pin: abc="), None),
                "12:26:40.123456 gen-tls-cert controller-cert pin: abc=",
                r#"{"id":"controller-cert","action":"gen-tls-cert","data":"pin: abc=","state":"done","ts":"2020-09-13T12:26:40.123456Z"}"#,
            ),
            (
                event(StepState::Error, None, Some("no")),
                "12:26:40.123456 gen-tls-cert controller-cert error: no",
                r#"{"id":"controller-cert","action":"gen-tls-cert","state":"error","error":"no","ts":"2020-09-13T12:26:40.123456Z"}"#,
            ),
            (
                event(StepState::Info, Some("one host is missing"), None),
                "12:26:40.123456 gen-tls-cert one host is missing",
                r#"{"id":"controller-cert","action":"gen-tls-cert","data":"one host is missing","state":"info","ts":"2020-09-13T12:26:40.123456Z"}"#,
            ),
        ] {
            assert_eq!(event.text_line(), text);
            assert_eq!(event.json_line(), json);
            assert_eq!(serde_json::from_str::<StepEvent>(json).unwrap(), event);
        }
    }
}
