//! The life of one job: starting → running → done, crashed or failed. It only ever moves forward, and
//! an ended job never changes again.

use kit_clock::Wall;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Accepted; its program does not run yet.
    Starting,
    /// Its program runs.
    Running,
    /// Its program ended with exit status 0.
    Done,
    /// Its program ended with another exit status.
    Crashed,
    /// Its program never ran, or nobody saw its end.
    Failed,
}

impl Status {
    /// Whether nothing can happen any more.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Starting | Self::Running => false,
            Self::Done | Self::Crashed | Self::Failed => true,
        }
    }

    /// Whether a request to stop makes sense.
    pub fn can_stop(self) -> bool {
        !self.has_ended()
    }

    /// Whether there is a program that a signal can reach.
    pub fn can_signal(self) -> bool {
        self == Self::Running
    }
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its program started.
    Started,
    /// Its program ended; a signalled one has status 0.
    Exited {
        /// The exit status.
        status: i32,
    },
    /// Its program never ran, or its supervisor was lost.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// Somebody asked for its end.
    StopRequested,
    /// The request came before there was a container; there will be none.
    StoppedBeforeStart,
}

/// What an event changed, so that the shell knows what to tell and to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: the event came twice or too late.
    Nothing,
    /// Only the stop request was noted.
    StopNoted,
    /// The program runs.
    Started,
    /// The program ended.
    Stopped,
    /// The job failed.
    Failed,
}

/// One job's life so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub status: Status,
    /// Whether somebody asked for its end.
    pub stop_requested: bool,
    /// When its program started.
    pub started_at: Option<Wall>,
    /// When it ended.
    pub ended_at: Option<Wall>,
    /// How its program ended.
    pub exit_status: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            status: Status::Starting,
            stop_requested: false,
            started_at: None,
            ended_at: None,
            exit_status: None,
            error: None,
        }
    }
}

impl Life {
    /// Takes note of what happened at `now`.
    pub fn handle(&mut self, event: Event, now: Wall) -> Change {
        if self.status.has_ended() {
            return Change::Nothing;
        }
        match event {
            Event::Started if self.status == Status::Running => Change::Nothing,
            Event::Started => {
                self.status = Status::Running;
                self.started_at = Some(now);
                Change::Started
            }
            Event::Exited { status } => self.exit(status, now),
            Event::Failed { reason } => {
                self.error = Some(reason);
                self.end(Status::Failed, now);
                Change::Failed
            }
            Event::StopRequested if self.stop_requested => Change::Nothing,
            Event::StopRequested => {
                self.stop_requested = true;
                Change::StopNoted
            }
            Event::StoppedBeforeStart => {
                self.stop_requested = true;
                self.exit(0, now)
            }
        }
    }

    /// Whether times, statuses and texts agree with the status.
    pub fn check_invariants(&self) {
        assert_eq!(self.ended_at.is_some(), self.status.has_ended(), "{self:?}");
        assert_eq!(self.error.is_some(), self.status == Status::Failed, "{self:?}");
        match self.status {
            Status::Starting => assert_eq!((self.started_at, self.exit_status), (None, None)),
            Status::Running => assert!(self.started_at.is_some() && self.exit_status.is_none()),
            Status::Done => assert_eq!(self.exit_status, Some(0)),
            Status::Crashed => assert!(self.exit_status.is_some_and(|status| status != 0)),
            Status::Failed => assert_eq!(self.exit_status, None),
        }
    }

    fn exit(&mut self, status: i32, now: Wall) -> Change {
        self.exit_status = Some(status);
        self.end(if status == 0 { Status::Done } else { Status::Crashed }, now);
        Change::Stopped
    }

    fn end(&mut self, status: Status, now: Wall) {
        self.status = status;
        self.ended_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Started),
            (-3_i32..4).prop_map(|status| Event::Exited { status }),
            Just(Event::Failed { reason: "no layer".to_owned() }),
            Just(Event::StopRequested),
            Just(Event::StoppedBeforeStart),
        ]
    }

    proptest! {
        #[test]
        fn a_life_is_consistent_and_its_end_is_final(events in prop::collection::vec(any_event(), 0..12)) {
            let mut life = Life::default();
            for (at, event) in events.into_iter().enumerate() {
                let before = life.clone();
                let change = life.handle(event, Wall::from_epoch(Duration::from_secs(at as u64)));
                life.check_invariants();
                prop_assert!(life.status >= before.status);
                prop_assert!(life.stop_requested >= before.stop_requested);
                prop_assert_eq!(change == Change::Nothing, life == before);
                if before.status.has_ended() {
                    prop_assert_eq!(&life, &before);
                }
            }
        }
    }

    #[test]
    fn exit_status_decides_between_done_and_crashed() {
        for (status, want) in [(0, Status::Done), (42, Status::Crashed), (-1, Status::Crashed)] {
            let mut life = Life::default();
            assert_eq!(life.handle(Event::Started, Wall::EPOCH), Change::Started);
            assert_eq!(life.handle(Event::Exited { status }, Wall::EPOCH), Change::Stopped);
            assert_eq!((life.status, life.exit_status), (want, Some(status)));
        }
    }

    #[test]
    fn a_job_stopped_before_its_container_is_done() {
        let mut life = Life::default();
        life.handle(Event::StopRequested, Wall::EPOCH);
        assert_eq!(life.status, Status::Starting);
        assert_eq!(life.handle(Event::StoppedBeforeStart, Wall::EPOCH), Change::Stopped);
        assert_eq!((life.status, life.exit_status), (Status::Done, Some(0)));
    }
}
