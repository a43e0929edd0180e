//! What can be asked of the registry, what it answers, and what watchers are told.

use std::sync::Arc;

use crate::{Election, Id, Instance, LogIndex, Meta, Name, Registration};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new service.
    AddService {
        /// Its name.
        service: Name,
        /// How it gets its leader.
        election: Election,
    },
    /// A service goes, with its instances, leader and metadata.
    RemoveService {
        /// Its name.
        service: Name,
    },
    /// Compare-and-swap of a service's metadata.
    SetMeta {
        /// The service.
        service: Name,
        /// The new data, a JSON text the registry does not look into.
        data: Arc<str>,
        /// What must be stored now: the index of that write, zero for nothing.
        expected: LogIndex,
        /// Who leads from now on, set in the same step.
        leader: Option<Id>,
    },
    /// Who leads a service of manual election.
    SetLeader {
        /// The service.
        service: Name,
        /// The instance, which need not exist yet.
        leader: Id,
    },
    /// An instance is new, or has other metadata, or gives a sign of life that must be ordered.
    AddInstance {
        /// The service.
        service: Name,
        /// The instance.
        id: Id,
        /// Where it is and what it says about itself.
        registration: Registration,
    },
    /// An instance leaves.
    RemoveInstance {
        /// The service.
        service: Name,
        /// The instance.
        id: Id,
    },
    /// Instances whose heartbeats stopped.
    Expire {
        /// Which.
        lapsed: Vec<Lapsed>,
    },
}

/// An instance the leader has not heard of for too long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lapsed {
    /// The service.
    pub service: Name,
    /// The instance.
    pub id: Id,
    /// The last write of it that the leader knew when it decided. A newer write is a sign of life, so
    /// that the instance stays.
    pub touched: LogIndex,
}

/// What a command that was accepted did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so now.
    Done,
    /// The metadata is stored under this index.
    MetaStored(LogIndex),
}

/// Why a command changed nothing. The texts are part of the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The service exists already.
    #[error("discoverd: service {:?} already exists", .0.as_str())]
    ServiceExists(Name),
    /// No such service, or none that ever had an instance.
    #[error("discoverd: service {:?} not found", .0.as_str())]
    ServiceNotFound(Name),
    /// Metadata was to be created and is there.
    #[error("Service metadata for {:?} already exists, use index=n to set", .0.as_str())]
    MetaExists(Name),
    /// Metadata was to be replaced and there is none.
    #[error("Service metadata for {:?} does not exist, use index=0 to set", .0.as_str())]
    MetaNotFound(Name),
    /// Metadata was replaced by somebody else.
    #[error("Service metadata for {:?} exists, but wrong index provided", .0.as_str())]
    MetaChanged(Name),
    /// The leader was to be set where it is not set by hand.
    #[error("service leader election type is not manual")]
    NotManual,
}

/// A change that watchers are told, in the order of the list an applied command gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new instance.
    Up(Name, Arc<Instance>),
    /// A known instance with another registration.
    Updated(Name, Arc<Instance>),
    /// An instance is gone; this is how it was.
    Down(Name, Arc<Instance>),
    /// Another leader, or none.
    Leader(Name, Option<Arc<Instance>>),
    /// New metadata.
    Meta(Name, Meta),
}

impl Event {
    /// The service it is about.
    pub fn service(&self) -> &Name {
        match self {
            Self::Up(service, _)
            | Self::Updated(service, _)
            | Self::Down(service, _)
            | Self::Leader(service, _)
            | Self::Meta(service, _) => service,
        }
    }
}
