//! What is wrong, why it matters, and what to type next.

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The name of what it is, for programs.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// The host it is on, if it is on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// What is seen.
    pub(crate) seen: String,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// What to do, the likeliest first.
    pub(crate) next: Vec<Step>,
}

/// How much a finding matters. The worst is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something does not work now.
    Critical,
    /// Something is lost or about to be; the rest carries it.
    Warning,
    /// Good to know, and nothing to be done at once.
    Note,
}

/// A command to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// When, if not always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) when: Option<&'static str>,
    /// On which host, if not on any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<String>,
    pub(crate) command: String,
}

impl Severity {
    /// Whether a cluster with such a finding is not healthy.
    pub(crate) fn matters(self) -> bool {
        match self {
            Self::Critical | Self::Warning => true,
            Self::Note => false,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::Warning => "WARNING",
            Self::Note => "NOTE",
        }
    }
}

impl Finding {
    pub(crate) fn critical(code: &'static str, seen: impl Into<String>) -> Self {
        Self::new(code, Severity::Critical, seen.into())
    }

    pub(crate) fn warning(code: &'static str, seen: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, seen.into())
    }

    pub(crate) fn note(code: &'static str, seen: impl Into<String>) -> Self {
        Self::new(code, Severity::Note, seen.into())
    }

    fn new(code: &'static str, severity: Severity, seen: String) -> Self {
        Self { code, severity, host: None, seen, why: "", next: Vec::new() }
    }

    pub(crate) fn on(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    pub(crate) fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    /// What to type, anywhere in the cluster.
    pub(crate) fn next(self, command: impl Into<String>) -> Self {
        self.step(None, None, command.into())
    }

    /// What to type on a host.
    pub(crate) fn next_on(self, host: impl Into<String>, command: impl Into<String>) -> Self {
        self.step(None, Some(host.into()), command.into())
    }

    /// What to type instead, in a case that only a person can tell.
    pub(crate) fn or_if(self, when: &'static str, command: impl Into<String>) -> Self {
        self.step(Some(when), None, command.into())
    }

    fn step(mut self, when: Option<&'static str>, on: Option<String>, command: String) -> Self {
        self.next.push(Step { when, on, command });
        self
    }
}

/// The findings as people read them.
pub(crate) fn text(findings: &[Finding]) -> String {
    findings.iter().map(paragraph).collect()
}

fn paragraph(finding: &Finding) -> String {
    let host = finding.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
    let mut text = format!("{:<8}  {host}{}\n", finding.severity.word(), finding.seen);
    text.push_str(&format!("{:8}  why   {}\n", "", finding.why));
    for (index, step) in finding.next.iter().enumerate() {
        let word = if index == 0 { "next" } else { "or" };
        let when = step.when.map(|when| format!("{when}: ")).unwrap_or_default();
        let on = step.on.as_ref().map(|host| format!("on {host}: ")).unwrap_or_default();
        text.push_str(&format!("{:8}  {word:<5} {when}{on}{}\n", "", step.command));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_why_and_what_next() {
        let finding = Finding::warning("host-silent", "does not answer")
            .on("host2")
            .why("its jobs run elsewhere")
            .next_on("host2", "flynn-host start")
            .or_if("gone for good", "flynn-host forget 192.0.2.2");
        assert_eq!(
            text(std::slice::from_ref(&finding)),
            "WARNING   host2: does not answer\n          why   its jobs run elsewhere\n          \
             next  on host2: flynn-host start\n          or    gone for good: flynn-host forget \
             192.0.2.2\n"
        );
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["severity"], "warning");
        assert_eq!(json["next"][1]["when"], "gone for good");
        assert!(json["next"][1].get("on").is_none());
    }
}
