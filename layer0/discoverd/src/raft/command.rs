//! How commands of the registry stand in the log. Private to discoverd: the log's text form may change
//! only together with a way to read the old one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use discoverd_registry::{Answer, Command, Election, Lapsed, LogIndex, Refusal, Registration};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One entry of the log: commands that were written together, because one write to disk serves many
/// callers. Each of them gets an index of its own when it is applied. Clones are the same proposal, and its
/// text is made once: it goes to this member's disk and to every other member.
#[derive(Clone, Debug)]
pub(crate) struct Proposal(Arc<Batch>);

#[derive(Debug)]
struct Batch {
    commands: Vec<LogCommand>,
    /// Empty until it is asked for.
    text: OnceLock<Box<RawValue>>,
}

impl Proposal {
    pub(crate) fn new(commands: Vec<LogCommand>) -> Self {
        Self(Arc::new(Batch { commands, text: OnceLock::new() }))
    }

    pub(crate) fn commands(&self) -> &[LogCommand] {
        &self.0.commands
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Batch { commands, text } = &*self.0;
        if let Some(text) = text.get() {
            return text.serialize(serializer);
        }
        let made = serde_json::value::to_raw_value(commands).map_err(S::Error::custom)?;
        text.get_or_init(|| made).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let commands = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self(Arc::new(Batch { commands, text: text.into() })))
    }
}

/// What applying a [`Proposal`] gave, in its order. It never leaves the process: only the leader
/// proposes, so nothing of it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answers {
    #[serde(skip)]
    pub(crate) results: Vec<Result<Answer, Refusal>>,
}

/// [`Command`] with a text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogCommand {
    AddService {
        service: String,
        election: LogElection,
    },
    RemoveService {
        service: String,
    },
    SetMeta {
        service: String,
        data: String,
        expected: u64,
        leader: Option<String>,
    },
    SetLeader {
        service: String,
        leader: String,
    },
    AddInstance {
        service: String,
        id: String,
        addr: String,
        proto: String,
        meta: BTreeMap<String, String>,
    },
    RemoveInstance {
        service: String,
        id: String,
    },
    Expire {
        lapsed: Vec<LogLapsed>,
    },
}

/// [`Lapsed`] with a text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLapsed {
    service: String,
    id: String,
    touched: u64,
}

/// [`Election`] with a text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogElection {
    Oldest,
    Manual,
}

impl From<Election> for LogElection {
    fn from(election: Election) -> Self {
        match election {
            Election::Oldest => Self::Oldest,
            Election::Manual => Self::Manual,
        }
    }
}

impl From<LogElection> for Election {
    fn from(election: LogElection) -> Self {
        match election {
            LogElection::Oldest => Self::Oldest,
            LogElection::Manual => Self::Manual,
        }
    }
}

impl From<Command> for LogCommand {
    fn from(command: Command) -> Self {
        match command {
            Command::AddService { service, election } => {
                Self::AddService { service: service.to_string(), election: election.into() }
            }
            Command::RemoveService { service } => {
                Self::RemoveService { service: service.to_string() }
            }
            Command::SetMeta { service, data, expected, leader } => Self::SetMeta {
                service: service.to_string(),
                data: data.to_string(),
                expected: expected.0,
                leader: leader.map(|id| id.to_string()),
            },
            Command::SetLeader { service, leader } => {
                Self::SetLeader { service: service.to_string(), leader: leader.to_string() }
            }
            Command::AddInstance { service, id, registration } => {
                let Registration { addr, proto, meta } = registration;
                let (service, id) = (service.to_string(), id.to_string());
                Self::AddInstance { service, id, addr, proto, meta }
            }
            Command::RemoveInstance { service, id } => {
                Self::RemoveInstance { service: service.to_string(), id: id.to_string() }
            }
            Command::Expire { lapsed } => {
                Self::Expire { lapsed: lapsed.into_iter().map(LogLapsed::from).collect() }
            }
        }
    }
}

impl From<&LogCommand> for Command {
    fn from(command: &LogCommand) -> Self {
        match command {
            LogCommand::AddService { service, election } => {
                Self::AddService { service: service.as_str().into(), election: (*election).into() }
            }
            LogCommand::RemoveService { service } => {
                Self::RemoveService { service: service.as_str().into() }
            }
            LogCommand::SetMeta { service, data, expected, leader } => Self::SetMeta {
                service: service.as_str().into(),
                data: data.as_str().into(),
                expected: LogIndex(*expected),
                leader: leader.as_deref().map(Into::into),
            },
            LogCommand::SetLeader { service, leader } => {
                Self::SetLeader { service: service.as_str().into(), leader: leader.as_str().into() }
            }
            LogCommand::AddInstance { service, id, addr, proto, meta } => Self::AddInstance {
                service: service.as_str().into(),
                id: id.as_str().into(),
                registration: Registration {
                    addr: addr.clone(),
                    proto: proto.clone(),
                    meta: meta.clone(),
                },
            },
            LogCommand::RemoveInstance { service, id } => {
                Self::RemoveInstance { service: service.as_str().into(), id: id.as_str().into() }
            }
            LogCommand::Expire { lapsed } => {
                Self::Expire { lapsed: lapsed.iter().map(Lapsed::from).collect() }
            }
        }
    }
}

impl From<Lapsed> for LogLapsed {
    fn from(lapsed: Lapsed) -> Self {
        let Lapsed { service, id, touched } = lapsed;
        Self { service: service.to_string(), id: id.to_string(), touched: touched.0 }
    }
}

impl From<&LogLapsed> for Lapsed {
    fn from(lapsed: &LogLapsed) -> Self {
        let LogLapsed { service, id, touched } = lapsed;
        Self {
            service: service.as_str().into(),
            id: id.as_str().into(),
            touched: LogIndex(*touched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_reads_back_as_it_was_written() {
        let registration = Registration {
            addr: "10.0.0.1:80".to_owned(),
            proto: "tcp".to_owned(),
            meta: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let lapsed = Lapsed { service: "web".into(), id: "a".into(), touched: LogIndex(3) };
        let (service, id) = (|| "web".into(), || "a".into());
        for command in [
            Command::AddService { service: service(), election: Election::Manual },
            Command::RemoveService { service: service() },
            Command::SetMeta {
                service: service(),
                data: "{\"a\":1}".into(),
                expected: LogIndex(9),
                leader: Some(id()),
            },
            Command::SetLeader { service: service(), leader: id() },
            Command::AddInstance { service: service(), id: id(), registration },
            Command::RemoveInstance { service: service(), id: id() },
            Command::Expire { lapsed: vec![lapsed] },
        ] {
            let proposal = Proposal::new(vec![command.clone().into()]);
            let text = serde_json::to_string(&proposal).unwrap();
            let read: Proposal = serde_json::from_str(&text).unwrap();
            assert_eq!(read.commands().iter().map(Command::from).collect::<Vec<_>>(), [command]);
            assert_eq!(serde_json::to_string(&read).unwrap(), text, "it is sent on as it came");
        }
    }
}
