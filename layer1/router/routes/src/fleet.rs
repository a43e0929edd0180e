//! The backends of one service, from listed to drained. Level-triggered: it is told what is listed
//! now and answers with the steps that lead there.

use std::collections::BTreeMap;

/// An instance of a service as requests see it. Another job at the same address is another backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// `host:port`.
    pub addr: String,
    /// The app's name; empty if the instance does not tell.
    pub app: String,
    /// The job's id; empty if the instance does not tell.
    pub job: String,
}

/// What is to be done about a backend, in the past life of which the shell keeps its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// New: it gets requests from now on.
    Start(Backend),
    /// It was draining and is listed again: the same counters go on.
    Resume(Backend),
    /// Not listed any more: no new requests; report when the last has ended.
    Drain(Backend),
    /// Its last request has ended: it can be forgotten.
    Forget(Backend),
}

/// The backends of one service.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    members: BTreeMap<Backend, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Draining,
}

impl Fleet {
    /// What discovery lists now. Downs come before ups, so that a job which took over an address is
    /// not reported before its predecessor went.
    pub fn listed(&mut self, now: &[Backend]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (backend, state) in &mut self.members {
            if *state == State::Up && !now.contains(backend) {
                *state = State::Draining;
                steps.push(Step::Drain(backend.clone()));
            }
        }
        for backend in now {
            match self.members.insert(backend.clone(), State::Up) {
                None => steps.push(Step::Start(backend.clone())),
                Some(State::Draining) => steps.push(Step::Resume(backend.clone())),
                Some(State::Up) => {}
            }
        }
        steps
    }

    /// The last request of a backend has ended. Nothing to do if it is listed again by now.
    pub fn drained(&mut self, backend: &Backend) -> Option<Step> {
        if self.members.get(backend) != Some(&State::Draining) {
            return None;
        }
        self.members.remove(backend);
        Some(Step::Forget(backend.clone()))
    }

    /// Those that get requests.
    pub fn up(&self) -> impl Iterator<Item = &Backend> {
        self.members.iter().filter(|(_, state)| **state == State::Up).map(|(backend, _)| backend)
    }

    /// Those whose last requests are awaited.
    pub fn draining(&self) -> impl Iterator<Item = &Backend> {
        let draining = |state: &State| *state == State::Draining;
        self.members.iter().filter(move |(_, state)| draining(state)).map(|(backend, _)| backend)
    }
}
