//! A change of the controller's state: one transaction with the events that tell of it.
//!
//! Events are written last, under a lock held until the commit, so that their ids are in commit order
//! and a reader that resumes after an id misses nothing.

use controller_api::EventType;
use kit_ids::AppId;
use kit_pg::{Client, Json, PgError, Transaction};
use serde::Serialize;

use crate::failure::{Answer, Failure};

/// Serializes the writers of events.
const EVENT_LOCK: i64 = 0x6576_656e_7473;

/// An open transaction. Dropped without [`commit`](Self::commit), nothing happened.
pub(crate) struct Change<'a> {
    tx: Transaction<'a>,
    events: Vec<NewEvent>,
}

struct NewEvent {
    app: Option<String>,
    kind: EventType,
    object_id: String,
    data: serde_json::Value,
    op: Option<&'static str>,
    unique_id: Option<String>,
}

/// Whether an event is the first about its object, for streams of creations.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Create,
    Update,
    Other,
}

impl<'a> Change<'a> {
    pub(crate) async fn begin(client: &'a mut Client) -> Result<Self, PgError> {
        Ok(Self { tx: client.transaction().await?, events: Vec::new() })
    }

    /// The transaction, for queries.
    pub(crate) fn tx(&self) -> &Transaction<'a> {
        &self.tx
    }

    /// Adds an event that is written with the commit.
    pub(crate) fn announce<T: Serialize>(
        &mut self,
        app: Option<&AppId>,
        kind: EventType,
        object_id: impl std::fmt::Display,
        op: Op,
        data: &T,
    ) -> Answer<()> {
        let data = serde_json::to_value(data).map_err(|error| Failure::internal(&error))?;
        let op = match op {
            Op::Create => Some("create"),
            Op::Update => Some("update"),
            Op::Other => None,
        };
        let (app, object_id) = (app.map(ToString::to_string), object_id.to_string());
        self.events.push(NewEvent { app, kind, object_id, data, op, unique_id: None });
        Ok(())
    }

    /// Makes the event added last one of which there is never a second with this id.
    pub(crate) fn at_most_once(&mut self, unique_id: String) {
        if let Some(event) = self.events.last_mut() {
            event.unique_id = Some(unique_id);
        }
    }

    /// Writes the events and commits.
    pub(crate) async fn commit(self) -> Result<(), PgError> {
        if !self.events.is_empty() {
            self.tx.execute("SELECT pg_advisory_xact_lock($1)", &[&EVENT_LOCK]).await?;
        }
        let insert = "INSERT INTO events (app_id, object_type, object_id, unique_id, op, data) \
             VALUES ($1::text::uuid, $2, $3, $4, $5, $6) ON CONFLICT (unique_id) DO NOTHING";
        for event in &self.events {
            let (kind, data) = (event.kind.as_str(), Json(&event.data));
            let values: [&(dyn kit_pg::ToSql + Sync); 6] =
                [&event.app, &kind, &event.object_id, &event.unique_id, &event.op, &data];
            self.tx.execute(insert, &values).await?;
        }
        Ok(self.tx.commit().await?)
    }
}
