//! A service's events without gaps: reconnects, and makes up for what happened meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kit_backoff::Backoff;
use kit_http::EventStream;

use crate::{Client, Event, EventKind, Instance, InstanceId, ServiceMeta};

/// The first and the longest pause before a new connection.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A watch of one service. Each (re)connection ends in a [`EventKind::Current`] event; before it come
/// only the differences to what was told already.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    service: String,
    stream: Option<EventStream>,
    pauses: Backoff,
    view: View,
    ready: VecDeque<Event>,
}

impl Watch {
    pub(crate) fn new(client: Client, service: &str) -> Self {
        let pauses = Backoff::new(PAUSE, PAUSE_MAX, rand::random());
        let (service, view, ready) = (service.to_owned(), View::default(), VecDeque::new());
        Self { client, service, stream: None, pauses, view, ready }
    }

    /// The service that is watched.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The next event. Waits as long as it takes; dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let Some(stream) = &mut self.stream else {
                self.connect().await;
                continue;
            };
            match stream.next_json::<Event>().await {
                Some(Ok(event)) => {
                    self.pauses.reset();
                    self.view.hear(event, &mut self.ready);
                }
                Some(Err(error)) => {
                    tracing::debug!(service = %self.service, %error, "watch broke, connecting again");
                    self.stream = None;
                }
                None => self.stream = None,
            }
        }
    }

    /// The instances as far as told, by id.
    pub fn instances(&self) -> &BTreeMap<InstanceId, Instance> {
        &self.view.instances
    }

    async fn connect(&mut self) {
        if self.pauses.attempts() > 0 {
            tokio::time::sleep(self.pauses.next_delay()).await;
        } else {
            // Counts the attempt, so that the next one waits if no event comes of this.
            self.pauses.next_delay();
        }
        match self.client.open(&self.service).await {
            Ok(stream) => {
                self.stream = Some(stream);
                self.view.reconnected();
            }
            Err(error) => {
                tracing::debug!(service = %self.service, %error, "watch could not connect");
            }
        }
    }
}

/// What the watcher was told so far.
#[derive(Debug, Default)]
struct View {
    instances: BTreeMap<InstanceId, Instance>,
    leader: Option<Instance>,
    meta: Option<ServiceMeta>,
    /// The instances of the new connection's picture, until it is complete.
    picture: Option<BTreeSet<InstanceId>>,
}

impl View {
    fn reconnected(&mut self) {
        self.picture = Some(BTreeSet::new());
    }

    /// Takes one event of the server and adds what the watcher has not been told.
    fn hear(&mut self, event: Event, told: &mut VecDeque<Event>) {
        let Event { service, kind, instance, service_meta } = event;
        match (kind, instance, service_meta) {
            (EventKind::Up | EventKind::Update, Some(instance), _) => {
                told.extend(self.up(&service, instance));
            }
            (EventKind::Down, Some(instance), _) => {
                if self.instances.remove(&instance.id).is_some() {
                    told.push_back(Event::about(&service, kind, instance));
                }
            }
            (EventKind::Leader, leader, _) => {
                if self.picture.is_none() || self.leader != leader {
                    self.leader.clone_from(&leader);
                    told.push_back(Event::leader(&service, leader));
                }
            }
            (EventKind::ServiceMeta, _, Some(meta)) => {
                if self.meta.as_ref() != Some(&meta) {
                    self.meta = Some(meta.clone());
                    told.push_back(Event::meta(&service, meta));
                }
            }
            (EventKind::Current, ..) => self.complete(&service, told),
            // Incomplete, or of a kind that came after this client was built.
            (EventKind::Up | EventKind::Update | EventKind::Down, None, _)
            | (EventKind::ServiceMeta, _, None)
            | (EventKind::Unknown, ..) => {}
        }
    }

    /// New instances are ups, known ones with another registration updates, all others no news.
    fn up(&mut self, service: &str, instance: Instance) -> Option<Event> {
        if let Some(picture) = &mut self.picture {
            picture.insert(instance.id.clone());
        }
        let before = self.instances.insert(instance.id.clone(), instance.clone());
        match before {
            None => Some(Event::about(service, EventKind::Up, instance)),
            Some(before) if !before.same_registration(&instance) => {
                Some(Event::about(service, EventKind::Update, instance))
            }
            Some(_) => None,
        }
    }

    /// The picture is complete: what is not in it is gone.
    fn complete(&mut self, service: &str, told: &mut VecDeque<Event>) {
        if let Some(picture) = self.picture.take() {
            let gone = |id: &InstanceId, _: &mut Instance| !picture.contains(id);
            let mut left: Vec<_> =
                self.instances.extract_if(.., gone).map(|(_, one)| one).collect();
            left.sort_by_key(|instance| instance.index);
            told.extend(left.into_iter().map(|one| Event::about(service, EventKind::Down, one)));
            if self.instances.is_empty() && self.leader.take().is_some() {
                told.push_back(Event::leader(service, None));
            }
        }
        told.push_back(Event::current(service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its first letter gives its index.
    fn instance(addr: &str, meta: &str) -> Instance {
        let index = addr.bytes().next().map_or(0, u64::from);
        Instance { index, ..Instance::new("tcp", addr).with_meta("k", meta) }
    }

    fn meta(data: u32, index: u64) -> Event {
        Event::meta("web", ServiceMeta { index, ..ServiceMeta::create(&data).unwrap() })
    }

    fn up(addr: &str, meta: &str) -> Event {
        Event::about("web", EventKind::Up, instance(addr, meta))
    }

    fn leader(addr: &str) -> Event {
        Event::leader("web", Some(instance(addr, "1")))
    }

    fn told(view: &mut View, events: Vec<Event>) -> Vec<String> {
        let mut told = VecDeque::new();
        events.into_iter().for_each(|event| view.hear(event, &mut told));
        let word = |event: Event| match event.instance {
            Some(instance) => format!("{} {}", event.kind, instance.addr),
            None => event.kind.to_string(),
        };
        told.into_iter().map(word).collect()
    }

    #[test]
    fn a_reconnection_tells_the_differences_only() {
        let mut view = View::default();
        view.reconnected();
        let first = vec![up("a:1", "1"), up("b:1", "1"), up("c:1", "1"), leader("a:1"), meta(1, 5)];
        assert_eq!(
            told(&mut view, first),
            ["up a:1", "up b:1", "up c:1", "leader a:1", "service_meta"]
        );
        assert_eq!(told(&mut view, vec![Event::current("web")]), ["current"]);
        view.reconnected();
        let again = vec![up("b:1", "2"), up("c:1", "1"), up("d:1", "1"), leader("b:1"), meta(2, 9)];
        assert_eq!(told(&mut view, again), ["update b:1", "up d:1", "leader b:1", "service_meta"]);
        assert_eq!(told(&mut view, vec![Event::current("web")]), ["down a:1", "current"]);
        view.reconnected();
        let same = vec![up("b:1", "2"), up("c:1", "1"), up("d:1", "1"), leader("b:1"), meta(2, 9)];
        assert_eq!(told(&mut view, same), [] as [&str; 0]);
        view.reconnected();
        let nothing_left = vec![Event::current("web")];
        assert_eq!(
            told(&mut view, nothing_left),
            ["down b:1", "down c:1", "down d:1", "leader", "current"]
        );
    }

    #[test]
    fn live_events_pass_unchanged() {
        let mut view = View::default();
        let live = vec![
            up("a:1", "1"),
            leader("a:1"),
            leader("a:1"),
            Event::about("web", EventKind::Down, instance("a:1", "1")),
            Event::leader("web", None),
        ];
        assert_eq!(
            told(&mut view, live),
            ["up a:1", "leader a:1", "leader a:1", "down a:1", "leader"]
        );
    }
}
