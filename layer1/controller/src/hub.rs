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

    /// Follows the table from its present end, which is found before this returns: whoever subscribes
    /// afterwards misses nothing. Called once the schema is there.
    pub(crate) async fn start(&self, tasks: &Tasks, pool: &Pool, listener: Listener) {
        let mut pause = pauses();
        let last = loop {
            match present_end(pool).await {
                Ok(last) => break last,
                // The failure was logged where it arose.
                Err(_) => tokio::time::sleep(pause.next_delay()).await,
            }
        };
        let (live, pool) = (self.live.clone(), pool.clone());
        tasks.spawn_until_stop("events", follow(live, pool, listener, last));
    }
}

fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5), rand::random())
}

async fn present_end(pool: &Pool) -> Answer<i64> {
    events::newest_id(&pool.client().await?).await
}

async fn follow(
    live: broadcast::Sender<Arc<Event>>,
    pool: Pool,
    mut listener: Listener,
    mut last: i64,
) {
    let mut pause = pauses();
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

/// Hands out all events after `last`.
async fn catch_up(live: &broadcast::Sender<Arc<Event>>, pool: &Pool, last: &mut i64) -> Answer<()> {
    let client = pool.client().await?;
    loop {
        let batch = events::after(&client, *last, BATCH).await?;
        let is_last = i64::try_from(batch.len()).is_ok_and(|count| count < BATCH);
        for event in batch {
            *last = event.id;
            // Nobody may be listening.
            drop(live.send(Arc::new(event)));
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use kit_pg::test_server::TestDatabase;

    use super::*;
    use crate::server::MIGRATIONS;

    #[tokio::test]
    async fn an_event_of_the_first_moment_is_not_taken_for_an_old_one() {
        let database = TestDatabase::create().await;
        kit_pg::migrate(database.settings(), MIGRATIONS).await.unwrap();
        // With one connection everybody waits for the one before.
        let pool = Pool::new(database.settings(), 1).unwrap();
        let tasks = Tasks::root("test");
        let hub = Hub::new();
        let listener = kit_pg::listen(&tasks, database.settings(), "events");
        hub.start(&tasks, &pool, listener).await;
        let mut subscription = hub.subscribe();
        let insert = "INSERT INTO events (object_type, object_id) VALUES ('app', 'first')";
        pool.client().await.unwrap().batch_execute(insert).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(60), subscription.next_event());
        assert_eq!(event.await.expect("in time").unwrap().object_id, "first");
        tasks.shutdown(Duration::from_secs(60)).await;
    }
}
