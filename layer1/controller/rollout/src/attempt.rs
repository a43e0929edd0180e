//! How often jobs of the new release may end before a step counts as failed.

/// More ended jobs than this within one step fail it.
pub const TOLERATED_DOWNS: u32 = 5;

/// One step in progress.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    downs: u32,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{process_type} job failed to start: {reason}")]
pub struct JobFailure {
    /// The process type whose job ended last.
    pub process_type: String,
    /// What its host said.
    pub reason: String,
}

impl Attempt {
    /// Notes that a job of the new release ended; the error says that it was one too many.
    pub fn job_down(
        &mut self,
        process_type: &str,
        host_error: Option<&str>,
    ) -> Result<(), JobFailure> {
        self.downs += 1;
        if self.downs <= TOLERATED_DOWNS {
            return Ok(());
        }
        let reason = host_error.filter(|text| !text.is_empty()).unwrap_or("got down job event");
        Err(JobFailure { process_type: process_type.to_owned(), reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_end_is_one_too_many() {
        let mut attempt = Attempt::default();
        for _ in 0..5 {
            assert_eq!(attempt.job_down("web", None), Ok(()));
        }
        let failure = attempt.job_down("web", Some("exit 1")).unwrap_err();
        assert_eq!(failure.to_string(), "web job failed to start: exit 1");
        let failure = attempt.job_down("web", Some("")).unwrap_err();
        assert_eq!(failure.to_string(), "web job failed to start: got down job event");
    }
}
