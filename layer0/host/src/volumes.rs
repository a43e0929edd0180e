//! Volumes of the provider `default`: directories of this host with durable records. Ids on disk are
//! those inside jobs, whatever range a job is mapped to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use host_api::{Timestamp, VolumeEvent, VolumeEventKind, VolumeInfo};
use tokio::sync::{Mutex, broadcast};

use crate::store::{Store, StoreError, VOLUMES};

/// The one provider.
pub(crate) const PROVIDER: &str = "default";
/// Events a slow subscriber may be behind.
const EVENT_QUEUE: usize = 256;

/// The host's volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    store: Store,
    known: Mutex<BTreeMap<String, VolumeInfo>>,
    events: broadcast::Sender<VolumeEvent>,
}

/// Why a volume cannot be made or destroyed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("no volume with id {0:?}")]
    Unknown(String),
    #[error("volume {0:?} already exists")]
    Exists(String),
    #[error("must be 1 to 64 letters, digits, '-' or '_'")]
    BadId,
    #[error("cannot change the volume's directory")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Volumes {
    /// Reads what there is. A volume whose directory is gone is left out, the others are not harmed.
    pub(crate) fn open(dir: PathBuf, store: Store) -> Result<Self, VolumeError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let all = store.all::<VolumeInfo>(VOLUMES)?;
        let known = all.into_iter().filter(|(id, _)| {
            let there = dir.join(id).is_dir();
            if !there {
                tracing::warn!(volume = %id, "volume has no directory any more");
            }
            there
        });
        let known = Mutex::new(known.collect());
        Ok(Self { dir, store, known, events: broadcast::Sender::new(EVENT_QUEUE) })
    }

    /// Makes a volume of type `data`.
    pub(crate) async fn create(
        &self,
        mut info: VolumeInfo,
        now: Timestamp,
    ) -> Result<VolumeInfo, VolumeError> {
        let mut known = self.known.lock().await;
        if info.id.is_empty() {
            info.id = uuid::Uuid::new_v4().to_string();
        }
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if info.id.len() > 64 || !info.id.chars().all(safe) {
            return Err(VolumeError::BadId);
        }
        if known.contains_key(&info.id) {
            return Err(VolumeError::Exists(info.id));
        }
        info.kind = "data".to_owned();
        info.created_at = now;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.dir.join(&info.id))?;
        fs::File::open(&self.dir)?.sync_all()?;
        self.store.put(VOLUMES, &info.id, &info).await?;
        known.insert(info.id.clone(), info.clone());
        self.tell(VolumeEventKind::Create, &info);
        Ok(info)
    }

    /// Destroys a volume with all that is in it. The record goes first: a crash leaves a directory
    /// nobody names rather than a volume without one.
    pub(crate) async fn destroy(&self, id: &str) -> Result<(), VolumeError> {
        let mut known = self.known.lock().await;
        let info = known.get(id).cloned().ok_or_else(|| VolumeError::Unknown(id.to_owned()))?;
        self.store.delete(VOLUMES, id).await?;
        known.remove(id);
        let path = self.dir.join(id);
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
        self.tell(VolumeEventKind::Destroy, &info);
        Ok(removed.map_err(std::io::Error::other)??)
    }

    pub(crate) async fn get(&self, id: &str) -> Option<VolumeInfo> {
        self.known.lock().await.get(id).cloned()
    }

    pub(crate) async fn list(&self) -> Vec<VolumeInfo> {
        self.known.lock().await.values().cloned().collect()
    }

    /// The directory of a volume, if there is one.
    pub(crate) async fn path(&self, id: &str) -> Option<PathBuf> {
        self.known.lock().await.contains_key(id).then(|| self.dir.join(id))
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<VolumeEvent> {
        self.events.subscribe()
    }

    fn tell(&self, kind: VolumeEventKind, volume: &VolumeInfo) {
        // Nobody listening is no failure.
        drop(self.events.send(VolumeEvent { kind, volume: volume.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn volumes_survive_a_reopen_and_a_lost_one_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = dir.path().join("volumes");
        let volumes = Volumes::open(path.clone(), store.clone()).unwrap();
        let kept = volumes.create(VolumeInfo::default(), Timestamp::default()).await.unwrap();
        let named = |id: &str| VolumeInfo { id: id.to_owned(), ..VolumeInfo::default() };
        let lost = volumes.create(named("lost"), Timestamp::default()).await.unwrap();
        assert!(matches!(
            volumes.create(lost, Timestamp::default()).await,
            Err(VolumeError::Exists(_))
        ));
        assert!(matches!(
            volumes.create(named("../x"), Timestamp::default()).await,
            Err(VolumeError::BadId)
        ));
        fs::write(path.join(&kept.id).join("file"), "x").unwrap();
        fs::remove_dir(path.join("lost")).unwrap();
        let volumes = Volumes::open(path.clone(), store).unwrap();
        assert_eq!(volumes.list().await, std::slice::from_ref(&kept));
        volumes.destroy(&kept.id).await.unwrap();
        assert!(!path.join(&kept.id).exists());
        assert!(matches!(volumes.destroy(&kept.id).await, Err(VolumeError::Unknown(_))));
    }
}
