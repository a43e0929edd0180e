//! What the host was told over HTTP: its network, discoverd, its tags. Durable, and watched by those who
//! wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use host_api::{DiscoverdConfig, NetworkConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use crate::store::{SETTINGS, Store, StoreError};

const KEY: &str = "host";

/// Everything told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) network: Option<NetworkConfig>,
    pub(crate) discoverd: Option<DiscoverdConfig>,
    /// As posted last; the status shows them.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    /// All tags ever posted, merged; discoverd shows them.
    pub(crate) published_tags: Option<BTreeMap<String, String>>,
    /// Other hosts that were admitted or seen; see [`crate::members`].
    pub(crate) members: BTreeSet<Ipv4Addr>,
    /// Hosts that left, whoever else names them: the configuration may still do.
    pub(crate) forgotten: BTreeSet<Ipv4Addr>,
    /// The host is being emptied: the cluster shall place nothing here.
    pub(crate) draining: bool,
}

#[derive(Debug)]
pub(crate) struct Settings {
    store: Store,
    told: watch::Sender<Told>,
    /// Changes take turns, so that what is on disk is what was told last.
    turn: Mutex<()>,
}

impl Settings {
    pub(crate) fn open(store: Store) -> Result<Self, StoreError> {
        let told = store.get(SETTINGS, KEY)?.unwrap_or_default();
        Ok(Self { store, told: watch::Sender::new(told), turn: Mutex::new(()) })
    }

    pub(crate) fn now(&self) -> Told {
        self.told.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Told) + Send,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let mut told = self.now();
        change(&mut told);
        self.store.put(SETTINGS, KEY, &told).await?;
        self.told.send_replace(told);
        Ok(())
    }
}
