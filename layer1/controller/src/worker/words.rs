//! How things are put for people: why a job ended, what a job that is not up still owes.

use std::collections::BTreeMap;

use controller_api::{ProcessType, Release};

use crate::failure::Failure;

/// How a job ended.
#[derive(Clone, Debug, Default)]
pub(super) struct End<'a> {
    /// What its host said.
    pub(super) host_error: Option<&'a str>,
    pub(super) exit_status: Option<i32>,
    /// How long it ran, or was up, in seconds.
    pub(super) lasted: Option<f64>,
    /// Its release's process, if it still has it.
    pub(super) process: Option<&'a ProcessType>,
}

/// The same for every job that ended in the same way.
pub(super) fn of_end(end: &End<'_>) -> String {
    if let Some(error) = end.host_error.filter(|error| !error.is_empty()) {
        return error.to_owned();
    }
    let after = match end.lasted {
        Some(seconds) if seconds >= 1.0 => format!(" after {seconds:.0} s"),
        Some(_) | None => String::new(),
    };
    match end.exit_status {
        Some(0) => format!("it ended by itself, with exit status 0{after}"),
        Some(status) if (129..=192).contains(&status) => {
            let signal = status - 128;
            let check = end.process.filter(|_| signal == 9).and_then(killing_check);
            match check {
                Some(check) => format!("it was killed{after}: {check}"),
                None => format!("it was ended by signal {signal}{after}"),
            }
        }
        Some(status) => format!("it exited with status {status}{after}"),
        None => "got down job event".to_owned(),
    }
}

/// What each process type's jobs have to do before they are up.
pub(super) fn owed(release: &Release) -> BTreeMap<String, String> {
    release.processes.iter().map(|(name, process)| (name.clone(), debt(process))).collect()
}

/// An error's text; the log has its causes.
pub(super) fn of_failure(failure: &Failure) -> String {
    match failure {
        Failure::NotFound => "an object is gone".to_owned(),
        Failure::Api(error) => error.message.clone(),
    }
}

fn debt(process: &ProcessType) -> String {
    let checks: Vec<String> = checks(process, |_| true);
    if !checks.is_empty() {
        return checks.join(", ");
    }
    if process.service.is_empty() {
        "the program has not started yet".to_owned()
    } else {
        format!("it has not been registered in service {}", process.service)
    }
}

/// The check that had its job killed, if there is one.
fn killing_check(process: &ProcessType) -> Option<String> {
    checks(process, |check| check.kill_down).into_iter().next()
}

fn checks(
    process: &ProcessType,
    which: impl Fn(&controller_api::HealthCheck) -> bool,
) -> Vec<String> {
    let services = process.ports.iter().filter_map(|port| {
        let check = port.service.as_ref()?.check.as_ref()?;
        which(check).then(|| unanswered(port.port, check))
    });
    services.collect()
}

fn unanswered(port: u16, check: &controller_api::HealthCheck) -> String {
    let port = if port == 0 { "$PORT".to_owned() } else { port.to_string() };
    if check.kind == "tcp" || check.kind.is_empty() {
        return format!("nothing accepts connections on its port {port}");
    }
    let path = if check.path.is_empty() { "/" } else { &check.path };
    let status = if check.status == 0 { 200 } else { check.status };
    format!("its health check GET {path} on port {port} is not answered with status {status}")
}

#[cfg(test)]
mod tests {
    use controller_api::{HealthCheck, Port, Service};

    use super::*;

    fn process(check: HealthCheck) -> ProcessType {
        let service = Service { name: "demo-web".to_owned(), create: true, check: Some(check) };
        let port = Port { port: 8080, proto: "tcp".to_owned(), service: Some(service) };
        ProcessType { ports: vec![port], ..ProcessType::default() }
    }

    #[test]
    fn ends_are_put_in_words() {
        let killed = process(HealthCheck { kill_down: true, ..HealthCheck::default() });
        let plain = ProcessType::default();
        for (host_error, exit_status, lasted, process, words) in [
            (Some("exec: no such file"), Some(1), None, &plain, "exec: no such file"),
            (Some(""), Some(3), Some(0.4), &plain, "it exited with status 3"),
            (None, Some(3), Some(3.2), &plain, "it exited with status 3 after 3 s"),
            (None, Some(0), None, &plain, "it ended by itself, with exit status 0"),
            (None, Some(139), None, &plain, "it was ended by signal 11"),
            (
                None,
                Some(137),
                Some(10.0),
                &killed,
                "it was killed after 10 s: nothing accepts connections on its port 8080",
            ),
            (None, None, None, &plain, "got down job event"),
        ] {
            let end = End { host_error, exit_status, lasted, process: Some(process) };
            assert_eq!(of_end(&end), words);
        }
    }

    #[test]
    fn what_a_job_owes_is_put_in_words() {
        let http = HealthCheck {
            kind: "http".to_owned(),
            path: "/health".to_owned(),
            ..HealthCheck::default()
        };
        assert_eq!(
            debt(&process(http)),
            "its health check GET /health on port 8080 is not answered with status 200"
        );
        let registered = ProcessType { service: "db".to_owned(), ..ProcessType::default() };
        assert_eq!(debt(&registered), "it has not been registered in service db");
    }
}
