//! The cluster's state as it stands in discoverd's service metadata (spec/appliances.md §1).
//!
//! Only a cluster of one is made here; the form is that of every appliance, so that a cluster can
//! grow into a chain later.

use discoverd_api::Instance;
use serde::{Deserialize, Serialize};

/// Why no state change may happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// When, RFC 3339.
    pub frozen_at: String,
    /// Why.
    pub reason: String,
}

/// Who has which place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Grows with each takeover.
    pub generation: u64,
    /// Set while nothing may change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub freeze: Option<Freeze>,
    /// A cluster of one that never elects.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub singleton: bool,
    /// The primary's position when the generation began.
    pub init_wal: String,
    /// Takes writes.
    pub primary: Option<Instance>,
    /// Replicates synchronously from the primary.
    pub sync: Option<Instance>,
    /// Replicate from the one before them.
    pub r#async: Option<Vec<Instance>>,
    /// Former primaries that lost their place.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub deposed: Vec<Instance>,
}

/// The position of a log with nothing in it.
pub(crate) const ZERO_WAL: &str = "0/00000000";

impl ClusterState {
    /// The first state of a cluster of one.
    pub(crate) fn singleton(primary: Instance, frozen_at: String) -> Self {
        Self {
            generation: 1,
            freeze: Some(Freeze {
                frozen_at,
                reason: "cluster started in singleton mode".to_owned(),
            }),
            singleton: true,
            init_wal: ZERO_WAL.to_owned(),
            primary: Some(primary),
            sync: None,
            r#async: None,
            deposed: Vec::new(),
        }
    }

    /// Whether the peer with this persistent id is the primary.
    pub(crate) fn is_primary(&self, id: &str) -> bool {
        let known = self.primary.as_ref().and_then(|primary| primary.meta.get(crate::peer::ID_KEY));
        known.is_some_and(|known| known == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_one_has_the_wire_form_of_its_original() {
        let me = Instance::new("tcp", "100.100.5.2:5432").with_meta("POSTGRES_ID", "p1");
        let state = ClusterState::singleton(me, "2026-01-01T00:00:00Z".to_owned());
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(
            text,
            r#"{"generation":1,"freeze":{"frozen_at":"2026-01-01T00:00:00Z","reason":"cluster started in singleton mode"},"singleton":true,"init_wal":"0/00000000","primary":{"id":"e4b1e0c1b0ac4b1f4c4d5b32d8e2a9f0","addr":"100.100.5.2:5432","proto":"tcp","meta":{"POSTGRES_ID":"p1"}},"sync":null,"async":null}"#
                .replace("e4b1e0c1b0ac4b1f4c4d5b32d8e2a9f0", discoverd_api::instance_id("tcp", "100.100.5.2:5432").as_str())
        );
        assert!(state.is_primary("p1") && !state.is_primary("p2"));
        assert_eq!(serde_json::from_str::<ClusterState>(&text).unwrap(), state);
    }

    #[test]
    fn null_and_empty_lists_read_alike() {
        for list in ["null", "[]"] {
            let text = format!(
                r#"{{"generation":2,"init_wal":"0/0A","primary":null,"sync":null,"async":{list}}}"#
            );
            let state: ClusterState = serde_json::from_str(&text).unwrap();
            assert!(state.r#async.unwrap_or_default().is_empty() && !state.singleton);
        }
    }
}
