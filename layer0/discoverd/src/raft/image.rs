//! The text form of a snapshot of the registry, as it is kept on disk and sent to a member that is far
//! behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use discoverd_registry::{
    Instance, InstanceImage, LogIndex, Meta, Registration, ServiceImage, Snapshot,
};
use serde::{Deserialize, Serialize};

use super::command::LogElection;

#[derive(Serialize, Deserialize)]
struct Image {
    applied: u64,
    services: Vec<Service>,
}

#[derive(Serialize, Deserialize)]
struct Service {
    name: String,
    election: LogElection,
    leader: Option<String>,
    meta: Option<(String, u64)>,
    had_instances: bool,
    instances: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    addr: String,
    proto: String,
    meta: BTreeMap<String, String>,
    index: u64,
    touched: u64,
}

/// The text of a snapshot.
pub(crate) fn encode(snapshot: Snapshot) -> Result<Vec<u8>, serde_json::Error> {
    let Snapshot { applied, services } = snapshot;
    let services = services.into_iter().map(Service::from).collect();
    serde_json::to_vec(&Image { applied: applied.0, services })
}

/// The snapshot of a text.
pub(crate) fn decode(text: &[u8]) -> Result<Snapshot, serde_json::Error> {
    let Image { applied, services } = serde_json::from_slice(text)?;
    let services = services.into_iter().map(ServiceImage::from).collect();
    Ok(Snapshot { applied: LogIndex(applied), services })
}

impl From<ServiceImage> for Service {
    fn from(image: ServiceImage) -> Self {
        Self {
            name: image.name.to_string(),
            election: image.election.into(),
            leader: image.leader.map(|id| id.to_string()),
            meta: image.meta.map(|meta| (meta.data.to_string(), meta.index.0)),
            had_instances: image.had_instances,
            instances: image.instances.into_iter().map(Kept::from).collect(),
        }
    }
}

impl From<Service> for ServiceImage {
    fn from(service: Service) -> Self {
        let meta =
            |(data, index): (String, u64)| Meta { data: data.into(), index: LogIndex(index) };
        Self {
            name: service.name.into(),
            election: service.election.into(),
            leader: service.leader.map(Into::into),
            meta: service.meta.map(meta),
            had_instances: service.had_instances,
            instances: service.instances.into_iter().map(InstanceImage::from).collect(),
        }
    }
}

impl From<InstanceImage> for Kept {
    fn from(image: InstanceImage) -> Self {
        let InstanceImage { instance, touched } = image;
        let Registration { addr, proto, meta } = instance.registration.clone();
        let (id, index) = (instance.id.to_string(), instance.index.0);
        Self { id, addr, proto, meta, index, touched: touched.0 }
    }
}

impl From<Kept> for InstanceImage {
    fn from(kept: Kept) -> Self {
        let Kept { id, addr, proto, meta, index, touched } = kept;
        let registration = Registration { addr, proto, meta };
        let instance = Instance { id: id.into(), registration, index: LogIndex(index) };
        Self { instance: Arc::new(instance), touched: LogIndex(touched) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discoverd_registry::{Command, Election, Registry};

    #[test]
    fn a_snapshot_reads_back_as_it_was_written() {
        let mut registry = Registry::new();
        let registration = Registration {
            addr: "10.0.0.1:80".to_owned(),
            proto: "tcp".to_owned(),
            meta: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let commands = [
            Command::AddService { service: "web".into(), election: Election::Manual },
            Command::AddInstance { service: "web".into(), id: "a".into(), registration },
            Command::SetMeta {
                service: "web".into(),
                data: "[1]".into(),
                expected: LogIndex(0),
                leader: Some("b".into()),
            },
        ];
        for (at, command) in (1..).zip(commands) {
            registry.apply(command, LogIndex(at)).0.unwrap();
        }
        let text = encode(registry.snapshot()).unwrap();
        assert_eq!(decode(&text).unwrap(), registry.snapshot());
    }
}
