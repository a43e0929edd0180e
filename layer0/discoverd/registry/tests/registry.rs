//! The registry against the table of its wire, and against a naive model under random commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use discoverd_registry::{
    Answer, Command, Election, Event, Id, Instance, Lapsed, LogIndex, Name, Refusal, Registration,
    Registry,
};
use proptest::prelude::*;

fn registration(meta: &str) -> Registration {
    let meta = BTreeMap::from([("k".to_owned(), meta.to_owned())]);
    Registration { addr: "10.0.0.1:80".to_owned(), proto: "tcp".to_owned(), meta }
}

fn add_service(service: &str, election: Election) -> Command {
    Command::AddService { service: service.into(), election }
}

fn add(service: &str, id: &str, meta: &str) -> Command {
    let registration = registration(meta);
    Command::AddInstance { service: service.into(), id: id.into(), registration }
}

fn remove(service: &str, id: &str) -> Command {
    Command::RemoveInstance { service: service.into(), id: id.into() }
}

fn set_leader(service: &str, id: &str) -> Command {
    Command::SetLeader { service: service.into(), leader: id.into() }
}

fn set_meta(service: &str, expected: u64, leader: Option<&str>) -> Command {
    let (data, expected, leader) = ("{}".into(), LogIndex(expected), leader.map(Id::from));
    Command::SetMeta { service: service.into(), data, expected, leader }
}

/// Applies commands at 1, 2, 3… and writes the events of the last one as short words.
fn last_events(commands: Vec<Command>) -> Vec<String> {
    let mut registry = Registry::new();
    let mut last = Vec::new();
    for (at, command) in (1..).zip(commands) {
        (_, last) = registry.apply(command, LogIndex(at));
        registry.check_invariants();
    }
    last.iter().map(word).collect()
}

fn word(event: &Event) -> String {
    let named =
        |kind: &str, instance: &Arc<Instance>| format!("{kind} {}@{}", instance.id, instance.index);
    match event {
        Event::Up(_, instance) => named("up", instance),
        Event::Updated(_, instance) => named("update", instance),
        Event::Down(_, instance) => named("down", instance),
        Event::Leader(_, Some(instance)) => named("leader", instance),
        Event::Leader(_, None) => "leader none".to_owned(),
        Event::Meta(_, meta) => format!("meta @{}", meta.index),
    }
}

fn web(election: Election) -> Vec<Command> {
    vec![add_service("web", election), add("web", "a", "1"), add("web", "b", "1")]
}

fn after(mut commands: Vec<Command>, last: Vec<Command>) -> Vec<String> {
    commands.extend(last);
    last_events(commands)
}

#[test]
fn events_of_an_oldest_service_come_in_order() {
    let oldest = || web(Election::Oldest);
    let check = |last: Vec<Command>, want: &[&str]| assert_eq!(after(oldest(), last), want);
    check(vec![add("web", "c", "1")], &["up c@4"]);
    check(vec![add("web", "a", "1")], &[]);
    check(vec![add("web", "a", "2")], &["update a@2"]);
    check(vec![remove("web", "a")], &["down a@2", "leader b@3"]);
    check(vec![remove("web", "b")], &["down b@3"]);
    check(vec![remove("web", "a"), remove("web", "b")], &["down b@3", "leader none"]);
    check(vec![remove("web", "a"), add("web", "a", "1")], &["up a@5"]);
    check(vec![set_meta("web", 0, Some("b"))], &["meta @4", "leader b@3"]);
    check(vec![set_meta("web", 0, Some("a"))], &["meta @4", "leader a@2"]);
    check(vec![set_meta("web", 0, Some("b")), add("web", "c", "1")], &["up c@5", "leader a@2"]);
    check(vec![Command::RemoveService { service: "web".into() }], &["down a@2", "down b@3"]);
}

#[test]
fn a_manual_leader_changes_by_command_only() {
    let manual = || web(Election::Manual);
    let check = |last: Vec<Command>, want: &[&str]| assert_eq!(after(manual(), last), want);
    check(vec![set_leader("web", "b")], &["leader b@3"]);
    check(vec![set_leader("web", "b"), set_leader("web", "b")], &["leader b@3"]);
    check(vec![set_leader("web", "nobody")], &[]);
    check(vec![set_leader("web", "b"), remove("web", "b")], &["down b@3"]);
    check(vec![set_leader("web", "b"), remove("web", "b"), add("web", "b", "1")], &["up b@6"]);
    let mut registry = Registry::new();
    let mut commands = manual();
    commands.extend([set_leader("web", "b"), remove("web", "b"), add("web", "b", "1")]);
    for (at, command) in (1..).zip(commands) {
        registry.apply(command, LogIndex(at)).0.unwrap();
        let leads = registry.leader("web").map(|leader| leader.id.as_str());
        assert_eq!(leads, [None, None, None, Some("b"), None, Some("b")][at as usize - 1]);
    }
}

#[test]
fn an_expiry_sends_all_downs_before_the_leaders() {
    let lapsed = |service: &str, id: &str, touched| Lapsed {
        service: service.into(),
        id: id.into(),
        touched: LogIndex(touched),
    };
    let expire = |lapsed| vec![Command::Expire { lapsed }];
    let mut commands = web(Election::Oldest);
    commands.extend([add_service("db", Election::Oldest), add("db", "x", "1")]);
    let all = vec![lapsed("web", "a", 2), lapsed("db", "x", 5)];
    let want = ["down a@2", "down x@5", "leader none", "leader b@3"];
    assert_eq!(after(commands.clone(), expire(all)), want);
    commands.push(add("web", "a", "1"));
    assert!(
        after(commands, expire(vec![lapsed("web", "a", 2)])).is_empty(),
        "a newer write overrules"
    );
}

#[test]
fn metadata_is_compared_before_it_is_swapped() {
    for (stored, expected, want) in [
        (false, 0, Ok(Answer::MetaStored(LogIndex(9)))),
        (false, 5, Err(Refusal::MetaNotFound("web".into()))),
        (true, 0, Err(Refusal::MetaExists("web".into()))),
        (true, 2, Ok(Answer::MetaStored(LogIndex(9)))),
        (true, 1, Err(Refusal::MetaChanged("web".into()))),
        (true, 10, Err(Refusal::MetaChanged("web".into()))),
    ] {
        let mut registry = Registry::new();
        registry.apply(add_service("web", Election::Oldest), LogIndex(1)).0.unwrap();
        if stored {
            registry.apply(set_meta("web", 0, None), LogIndex(2)).0.unwrap();
        }
        assert_eq!(registry.apply(set_meta("web", expected, None), LogIndex(9)).0, want);
        assert_eq!(registry.applied(), LogIndex(9), "a refusal consumes its index too");
    }
}

#[test]
fn refusals_speak_the_text_of_the_wire() {
    let refused = |commands: Vec<Command>| {
        let mut registry = Registry::new();
        let mut last = Ok(Answer::Done);
        for (at, command) in (1..).zip(commands) {
            last = registry.apply(command, LogIndex(at)).0;
        }
        last.unwrap_err().to_string()
    };
    let service = || add_service("web", Election::Oldest);
    assert_eq!(refused(vec![service(), service()]), r#"discoverd: service "web" already exists"#);
    assert_eq!(refused(vec![add("web", "a", "1")]), r#"discoverd: service "web" not found"#);
    assert_eq!(
        refused(vec![service(), remove("web", "a")]),
        r#"discoverd: service "web" not found"#
    );
    assert_eq!(
        refused(vec![service(), set_leader("web", "a")]),
        "service leader election type is not manual"
    );
    assert_eq!(
        refused(vec![service(), set_meta("web", 0, None), set_meta("web", 0, None)]),
        r#"Service metadata for "web" already exists, use index=n to set"#
    );
    assert_eq!(
        refused(vec![service(), set_meta("web", 5, None)]),
        r#"Service metadata for "web" does not exist, use index=0 to set"#
    );
    assert_eq!(
        refused(vec![service(), set_meta("web", 0, None), set_meta("web", 9, None)]),
        r#"Service metadata for "web" exists, but wrong index provided"#
    );
}

/// The same rules written the slow and obvious way: one flat list, everything searched for.
#[derive(Clone, Debug, Default)]
struct Naive {
    services: Vec<(String, Election)>,
    /// service, id, meta, index
    instances: Vec<(String, String, String, u64)>,
    leaders: BTreeMap<String, String>,
}

impl Naive {
    fn apply(&mut self, command: &Command, at: u64) {
        match command {
            Command::AddService { service, election } => {
                if !self.knows(service.as_str()) {
                    self.services.push((service.to_string(), *election));
                }
            }
            Command::RemoveService { service } => {
                self.services.retain(|(name, _)| name != service.as_str());
                self.instances.retain(|(name, ..)| name != service.as_str());
                self.leaders.remove(service.as_str());
            }
            Command::SetLeader { service, leader } => {
                if self.services.contains(&(service.to_string(), Election::Manual)) {
                    self.leaders.insert(service.to_string(), leader.to_string());
                }
            }
            Command::AddInstance { service, id, registration } => {
                if !self.knows(service.as_str()) {
                    return;
                }
                let meta = registration.meta["k"].clone();
                match self
                    .instances
                    .iter_mut()
                    .find(|i| i.0 == service.as_str() && i.1 == id.as_str())
                {
                    Some(known) => known.2 = meta,
                    None => self.instances.push((service.to_string(), id.to_string(), meta, at)),
                }
                self.elect(service.as_str());
            }
            Command::RemoveInstance { service, id } => {
                self.instances.retain(|i| i.0 != service.as_str() || i.1 != id.as_str());
                self.elect(service.as_str());
            }
            Command::SetMeta { .. } | Command::Expire { .. } => {}
        }
    }

    fn knows(&self, service: &str) -> bool {
        self.services.iter().any(|(name, _)| name == service)
    }

    fn elect(&mut self, service: &str) {
        if !self.services.contains(&(service.to_owned(), Election::Oldest)) {
            return;
        }
        self.leaders.remove(service);
        let mine = self.instances.iter().filter(|i| i.0 == service);
        if let Some(oldest) = mine.min_by_key(|i| i.3) {
            self.leaders.insert(service.to_owned(), oldest.1.clone());
        }
    }

    fn picture(&self, service: &str) -> (Vec<(String, String, u64)>, Option<String>) {
        let mine = self.instances.iter().filter(|i| i.0 == service);
        let mut mine: Vec<_> = mine.map(|i| (i.1.clone(), i.2.clone(), i.3)).collect();
        mine.sort_by_key(|i| i.2);
        let leader =
            self.leaders.get(service).filter(|id| mine.iter().any(|i| &i.0 == *id)).cloned();
        (mine, leader)
    }
}

fn picture(registry: &Registry, service: &str) -> (Vec<(String, String, u64)>, Option<String>) {
    let flat = |i: &Arc<Instance>| (i.id.to_string(), i.registration.meta["k"].clone(), i.index.0);
    let leader = registry.leader(service).map(|leader| leader.id.to_string());
    (registry.instances(service).map(flat).collect(), leader)
}

/// What a watcher that only reads events believes about one service.
#[derive(Debug, Default, PartialEq)]
struct Watched {
    instances: BTreeMap<Id, Arc<Instance>>,
}

impl Watched {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Up(_, instance) => {
                let before = self.instances.insert(instance.id.clone(), Arc::clone(instance));
                assert!(before.is_none(), "an up is for a new instance");
            }
            Event::Updated(_, instance) => {
                let before = self.instances.insert(instance.id.clone(), Arc::clone(instance));
                let before = before.expect("an update is for a known instance");
                assert_eq!(before.index, instance.index, "an update keeps the index");
            }
            Event::Down(_, instance) => {
                assert_eq!(self.instances.remove(&instance.id).as_ref(), Some(instance));
            }
            Event::Leader(_, Some(leader)) => assert!(self.instances.contains_key(&leader.id)),
            Event::Leader(_, None) => assert!(self.instances.is_empty()),
            Event::Meta(..) => {}
        }
    }
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let service = || prop::sample::select(vec!["web", "db"]);
    let id = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let meta = prop::sample::select(vec!["1", "2"]);
    let election = prop_oneof![Just(Election::Oldest), Just(Election::Manual)];
    let command = prop_oneof![
        2 => (service(), election).prop_map(|(s, e)| add_service(s, e)),
        1 => service().prop_map(|s| Command::RemoveService { service: s.into() }),
        8 => (service(), id(), meta).prop_map(|(s, i, m)| add(s, i, m)),
        4 => (service(), id()).prop_map(|(s, i)| remove(s, i)),
        2 => (service(), id()).prop_map(|(s, i)| set_leader(s, i)),
        2 => (service(), 0..40_u64).prop_map(|(s, expected)| set_meta(s, expected, None)),
    ];
    prop::collection::vec(command, 1..80)
}

proptest! {
    #[test]
    fn the_registry_is_the_naive_model(commands in commands()) {
        let (mut registry, mut naive) = (Registry::new(), Naive::default());
        let mut watched: BTreeMap<Name, Watched> = BTreeMap::new();
        let mut highest = BTreeMap::<Name, LogIndex>::new();
        for (at, command) in (1..).zip(commands) {
            naive.apply(&command, at);
            let (_, events) = registry.apply(command, LogIndex(at));
            registry.check_invariants();
            for event in &events {
                watched.entry(event.service().clone()).or_default().hear(event);
                if let Event::Up(service, instance) = event {
                    let before = highest.insert(service.clone(), instance.index);
                    prop_assert!(before < Some(instance.index), "indices never decrease");
                }
            }
            for service in ["web", "db"] {
                prop_assert_eq!(picture(&registry, service), naive.picture(service));
                let believed = watched.get(service).map_or(0, |w| w.instances.len());
                prop_assert_eq!(believed, registry.instances(service).count());
            }
        }
    }

    #[test]
    fn a_restored_registry_goes_on_like_the_first(commands in commands(), cut in 0..80_usize) {
        let mut first = Registry::new();
        let mut second = Registry::new();
        for (at, command) in commands.into_iter().enumerate() {
            if at == cut {
                second = Registry::restore(first.snapshot());
            }
            let index = LogIndex(at as u64 + 1);
            let answer = first.apply(command.clone(), index);
            if at >= cut {
                prop_assert_eq!(second.apply(command, index), answer);
                second.check_invariants();
                prop_assert_eq!(&second, &first);
            }
        }
    }

    #[test]
    fn a_replaced_registry_tells_watchers_what_they_missed(commands in commands(), cut in 0..80_usize) {
        let (mut leader, mut follower) = (Registry::new(), Registry::new());
        let mut watched: BTreeMap<Name, Watched> = BTreeMap::new();
        for (at, command) in commands.into_iter().enumerate() {
            let index = LogIndex(at as u64 + 1);
            if at < cut {
                for event in follower.apply(command.clone(), index).1 {
                    watched.entry(event.service().clone()).or_default().hear(&event);
                }
            }
            let _answer = leader.apply(command, index);
        }
        for event in follower.replace(leader.snapshot()) {
            watched.entry(event.service().clone()).or_default().hear(&event);
        }
        prop_assert_eq!(&follower, &leader);
        for service in ["web", "db"] {
            let believed = watched.get(service).map_or(0, |w| w.instances.len());
            prop_assert_eq!(believed, leader.instances(service).count());
        }
    }
}
