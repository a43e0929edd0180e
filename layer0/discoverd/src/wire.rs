//! Between the registry's types and those of the wire.

use discoverd_api::{self as api, JsonText};
use discoverd_registry::{Command, Election, Event, Id, Instance, LogIndex, Meta, Registration};

/// An instance as the wire shows it.
pub(crate) fn instance(instance: &Instance) -> api::Instance {
    let Registration { addr, proto, meta } = instance.registration.clone();
    api::Instance { id: instance.id.as_str().into(), addr, proto, meta, index: instance.index.0 }
}

/// Metadata as the wire shows it.
pub(crate) fn meta(meta: &Meta) -> api::ServiceMeta {
    // The text was JSON when it was stored; what no longer reads as such is shown as nothing.
    let data = JsonText::parse(&meta.data).unwrap_or_default();
    api::ServiceMeta { data, leader_id: None, index: meta.index.0 }
}

/// An event as the wire shows it.
pub(crate) fn event(event: &Event) -> api::Event {
    use api::EventKind;
    match event {
        Event::Up(service, of) => api::Event::about(service.as_str(), EventKind::Up, instance(of)),
        Event::Updated(service, of) => {
            api::Event::about(service.as_str(), EventKind::Update, instance(of))
        }
        Event::Down(service, of) => {
            api::Event::about(service.as_str(), EventKind::Down, instance(of))
        }
        Event::Leader(service, of) => {
            api::Event::leader(service.as_str(), of.as_deref().map(instance))
        }
        Event::Meta(service, of) => api::Event::meta(service.as_str(), meta(of)),
    }
}

/// What an instance of the wire registers, and under which id.
pub(crate) fn registration(instance: api::Instance) -> (Id, Registration) {
    let api::Instance { id, addr, proto, meta, .. } = instance;
    (id.as_str().into(), Registration { addr, proto, meta })
}

/// The command that stores metadata.
pub(crate) fn set_meta(service: &str, meta: &api::ServiceMeta) -> Command {
    Command::SetMeta {
        service: service.into(),
        data: meta.data.as_str().into(),
        expected: LogIndex(meta.index),
        leader: meta.leader_id.as_ref().map(|id| id.as_str().into()),
    }
}

/// How a service of the wire gets its leader.
pub(crate) fn election(config: api::ServiceConfig) -> Election {
    match config.leader_type {
        api::LeaderType::Oldest => Election::Oldest,
        api::LeaderType::Manual => Election::Manual,
    }
}
