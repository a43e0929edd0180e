//! From the events table to whoever follows it. One task reads new rows at every wake-up and hands
//! them to all streams of this process. A lost database costs time, not events: reading goes on after
//! the last id.

use std::sync::Arc;
use std::time::Duration;

use controller_api::Event;
use kit_backoff::Backoff;
use kit_pg::{Listener, Pool};
use kit_tasks::Tasks;
use tokio::sync::broadcast;

use crate::events;
use crate::failure::Answer;

/// Events a stream may lag behind before it is ended.
const BUFFER: usize = 1000;
/// Events read in one query.
const BATCH: i64 = 500;
/// A wake-up that was lost for whatever reason delays events by at most this.
const RE_READ: Duration = Duration::from_secs(30);

/// The source of live events.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    live: broadcast::Sender<Arc<Event>>,
}

/// Live events from the moment of subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    live: broadcast::Receiver<Arc<Event>>,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubscriptionLost {
    #[error("event stream buffer overflow")]
    Overflow,
    #[error("controller: shutting down")]
    ShuttingDown,
}

impl Subscription {
    /// The next event.
    pub(crate) async fn next_event(&mut self) -> Result<Arc<Event>, SubscriptionLost> {
        self.live.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(_) => SubscriptionLost::Overflow,
            broadcast::error::RecvError::Closed => SubscriptionLost::ShuttingDown,
        })
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { live: broadcast::Sender::new(BUFFER) }
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { live: self.live.subscribe() }
    }

    /// Follows the table from its present end. Called once the schema is there.
    pub(crate) fn start(&self, tasks: &Tasks, pool: &Pool, listener: Listener) {
        let (live, pool) = (self.live.clone(), pool.clone());
        tasks.spawn_until_stop("events", follow(live, pool, listener));
    }
}

async fn follow(live: broadcast::Sender<Arc<Event>>, pool: Pool, mut listener: Listener) {
    let mut pause =
        Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rand::random());
    let mut last = None;
    loop {
        match catch_up(&live, &pool, &mut last).await {
            Ok(()) => {
                pause.reset();
                tokio::select! {
                    () = listener.woken() => {}
                    () = tokio::time::sleep(RE_READ) => {}
                }
            }
            // The failure was logged where it arose.
            Err(_) => tokio::time::sleep(pause.next_delay()).await,
        }
    }
}

/// Hands out all events after `last`; at first only finds where the table ends.
async fn catch_up(
    live: &broadcast::Sender<Arc<Event>>,
    pool: &Pool,
    last: &mut Option<i64>,
) -> Answer<()> {
    let client = pool.client().await?;
    let mut after = match *last {
        Some(after) => after,
        None => *last.insert(events::newest_id(&client).await?),
    };
    loop {
        let batch = events::after(&client, after, BATCH).await?;
        let is_last = i64::try_from(batch.len()).is_ok_and(|count| count < BATCH);
        for event in batch {
            after = event.id;
            // Nobody may be listening.
            drop(live.send(Arc::new(event)));
        }
        *last = Some(after);
        if is_last {
            return Ok(());
        }
    }
}
