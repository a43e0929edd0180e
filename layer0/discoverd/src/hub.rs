//! Who watches what: events go to each watcher's bounded queue, and a watcher that does not take them is
//! cut off instead of holding up the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use discoverd_api::EventKind;
use discoverd_registry::Event;
use futures_util::{Stream, StreamExt as _, stream};
use kit_http::sse;
use tokio::sync::mpsc;

use crate::wire;

/// Batches a watcher may leave untaken. All events of one applied batch of the log are one batch here,
/// however many they are: their texts are shared by all watchers, so a queue holds pointers only.
const QUEUE: usize = 64;

/// The error a watcher sees that was cut off.
const BLOCKED: &str = "discoverd: channel send failed due to blocked receiver";

/// Which kinds of events a watcher asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Everything, the marker of the present included.
    All,
    /// Ups, updates and downs.
    Instances,
    /// Changes of leader.
    Leader,
}

impl Kinds {
    fn include(self, kind: EventKind) -> bool {
        match self {
            Self::All => true,
            Self::Instances => {
                matches!(kind, EventKind::Up | EventKind::Update | EventKind::Down)
            }
            Self::Leader => kind == EventKind::Leader,
        }
    }
}

/// An event as it is sent.
#[derive(Debug)]
struct Told {
    kind: EventKind,
    event: sse::Event,
}

type Batch = Arc<Vec<Told>>;

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watchers: BTreeMap<String, Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    queue: mpsc::Sender<Batch>,
    blocked: Arc<AtomicBool>,
}

/// A watcher's end.
#[derive(Debug)]
pub(crate) struct Subscription {
    service: String,
    kinds: Kinds,
    picture: Vec<Event>,
    live: mpsc::Receiver<Batch>,
    blocked: Arc<AtomicBool>,
}

impl Hub {
    pub(crate) fn subscribe(
        &mut self,
        service: &str,
        kinds: Kinds,
        picture: Vec<Event>,
    ) -> Subscription {
        let (queue, live) = mpsc::channel(QUEUE);
        let blocked = Arc::new(AtomicBool::new(false));
        let watchers = self.watchers.entry(service.to_owned()).or_default();
        // Those that left are found here too, so that a quiet service does not collect them.
        watchers.retain(|watcher| !watcher.queue.is_closed());
        watchers.push(Watcher { queue, blocked: Arc::clone(&blocked) });
        Subscription { service: service.to_owned(), kinds, picture, live, blocked }
    }

    /// Tells the watchers of each service what happened to it, in order.
    pub(crate) fn publish(&mut self, events: &[Event]) {
        let mut batches: BTreeMap<&str, Vec<Told>> = BTreeMap::new();
        for event in events {
            let service = event.service().as_str();
            if self.watchers.contains_key(service) {
                let event = wire::event(event);
                let told = Told { kind: event.kind, event: sse::Event::json(&event) };
                batches.entry(service).or_default().push(told);
            }
        }
        for (service, batch) in batches {
            self.tell(service, &Arc::new(batch));
        }
    }

    fn tell(&mut self, service: &str, batch: &Batch) {
        let Entry::Occupied(mut watchers) = self.watchers.entry(service.to_owned()) else { return };
        watchers.get_mut().retain(|watcher| match watcher.queue.try_send(Arc::clone(batch)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                watcher.blocked.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        if watchers.get().is_empty() {
            watchers.remove();
        }
    }
}

impl Subscription {
    /// The items of the event stream: the present, its marker, then what happens. Texts of the present
    /// are made as the client takes them.
    pub(crate) fn into_events(self) -> impl Stream<Item = sse::Event> + Send + 'static {
        let Self { service, kinds, picture, live, blocked } = self;
        let present = picture.into_iter().map(|event| wire::event(&event));
        let present = present.filter(move |event| kinds.include(event.kind));
        let marker = (kinds == Kinds::All).then(|| discoverd_api::Event::current(&service));
        let present = present.chain(marker).map(|event| sse::Event::json(&event));
        stream::iter(present).chain(live_events(live, blocked, kinds))
    }
}

fn live_events(
    live: mpsc::Receiver<Batch>,
    blocked: Arc<AtomicBool>,
    kinds: Kinds,
) -> impl Stream<Item = sse::Event> + Send + 'static {
    let batches = stream::unfold(Some((live, blocked)), |state| async move {
        let (mut live, blocked) = state?;
        match live.recv().await {
            Some(batch) => Some((Ok(batch), Some((live, blocked)))),
            None if blocked.load(Ordering::Acquire) => Some((Err(BLOCKED), None)),
            None => None,
        }
    });
    batches.flat_map(move |batch| {
        let items: Vec<_> = match batch {
            Ok(batch) => {
                let wanted = batch.iter().filter(|told| kinds.include(told.kind));
                wanted.map(|told| told.event.clone()).collect()
            }
            Err(error) => vec![sse::Event::error(error)],
        };
        stream::iter(items)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use discoverd_registry::{Instance, LogIndex, Registration};

    fn up(index: u64) -> Event {
        let registration = Registration {
            addr: format!("10.0.0.1:{index}"),
            proto: "tcp".to_owned(),
            meta: BTreeMap::new(),
        };
        let instance =
            Instance { id: format!("i{index}").into(), registration, index: LogIndex(index) };
        Event::Up("web".into(), Arc::new(instance))
    }

    #[tokio::test]
    async fn a_watcher_that_takes_nothing_is_cut_off_after_what_was_queued() {
        let mut hub = Hub::default();
        let subscription = hub.subscribe("web", Kinds::All, vec![up(0)]);
        for index in 1..=100 {
            hub.publish(&[up(index)]);
        }
        assert!(hub.watchers.is_empty(), "it holds up nobody");
        let items: Vec<_> = subscription.into_events().collect().await;
        assert_eq!(items.len(), 1 + 1 + QUEUE + 1, "present, marker, queue, error");
        let last = items.last().map(sse::Event::encode);
        assert_eq!(last.unwrap(), format!("event: error\ndata: {BLOCKED}\n\n"));
    }

    #[tokio::test]
    async fn one_batch_of_any_size_blocks_nobody() {
        let mut hub = Hub::default();
        let subscription = hub.subscribe("web", Kinds::Instances, Vec::new());
        hub.publish(&(0..10_000).map(up).collect::<Vec<_>>());
        drop(hub);
        assert_eq!(subscription.into_events().count().await, 10_000);
    }

    #[tokio::test]
    async fn watchers_that_left_are_forgotten() {
        let mut hub = Hub::default();
        for _ in 0..10 {
            drop(hub.subscribe("quiet", Kinds::Leader, Vec::new()));
        }
        let kept = hub.subscribe("quiet", Kinds::Leader, Vec::new());
        assert_eq!(hub.watchers["quiet"].len(), 1);
        drop(kept);
    }
}
