//! The table against a linear matcher that follows the rules word by word, worked examples, and what
//! must always hold of choices and fleets.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use kit_ids::RouteId;
use proptest::prelude::*;
use routes::*;

fn id(number: usize) -> RouteId {
    format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap()
}

fn http(number: usize, domain: &str, path: &str) -> Rule {
    let (domain, path) = (Domain::parse(domain).unwrap(), PathPrefix::parse(path).unwrap());
    Rule { id: id(number), matcher: Matcher::Http { port: DEFAULT_PORT, domain, path } }
}

/// A table whose payloads are the texts of its routes.
fn table(routes: &[(&str, &str)]) -> (Table<String>, Vec<Problem>) {
    Table::build(
        routes.iter().enumerate().map(|(number, (domain, path))| {
            (http(number, domain, path), format!("{domain}{path}"))
        }),
    )
}

#[test]
fn hosts_find_their_routes() {
    let (table, problems) = table(&[
        ("foo.bar", ""),
        ("*.foo.bar", "/"),
        ("dev.foo.bar", "/"),
        ("*.bar", "/"),
        ("*", "/"),
        ("Caps.Example.COM", "/"),
        ("*.deep", "/"),
        ("[::1]", "/"),
    ]);
    assert_eq!(problems, []);
    for (host, want) in [
        ("foo.bar", "foo.bar"),
        ("FOO.bar:8080", "foo.bar"),
        ("x.foo.bar", "*.foo.bar/"),
        ("a.b.foo.bar", "*.foo.bar/"),
        ("dev.foo.bar", "dev.foo.bar/"),
        ("x.dev.foo.bar", "*.foo.bar/"),
        ("other.bar", "*.bar/"),
        ("bar", "*.bar/"),
        ("else.where", "*/"),
        ("", "*/"),
        ("caps.example.com:443", "Caps.Example.COM/"),
        ("[::1]:80", "[::1]/"),
        ("[::1]", "[::1]/"),
        ("a.b.c.d.deep", "*.deep/"),
        // Six labels: the fifth part is "e.deep", so "*.deep" is not tried.
        ("a.b.c.d.e.deep", "*/"),
    ] {
        assert_eq!(table.find(0, host, "/").map(String::as_str), Some(want), "{host}");
    }
    assert_eq!(table.find(8080, "foo.bar", "/"), None, "another port has routes of its own");
    assert_eq!(table.find_domain(0, "A.foo.bar").map(String::as_str), Some("*.foo.bar/"));
}

#[test]
fn a_wildcard_matches_its_own_domain_without_an_exact_route() {
    let (table, _) = table(&[("*.foo.bar", "/")]);
    for host in ["foo.bar", "x.foo.bar", "a.b.foo.bar"] {
        assert!(table.find(0, host, "/").is_some(), "{host}");
    }
    for host in ["bar", "xfoo.bar", "foo.bar.", ""] {
        assert!(table.find(0, host, "/").is_none(), "{host}");
    }
}

#[test]
fn the_deepest_path_wins_by_whole_segments() {
    let (table, problems) =
        table(&[("h", "/2/"), ("h", "/3"), ("h", "/"), ("h", "/2/deep/er/"), ("h", "/sp ace/")]);
    assert_eq!(problems, []);
    for (path, want) in [
        ("/", "h/"),
        ("", "h/"),
        ("*", "h/"),
        ("/2", "h/2/"),
        ("/2/", "h/2/"),
        ("/2/x", "h/2/"),
        ("//2//x", "h/2/"),
        ("/23", "h/"),
        ("/x/2", "h/"),
        ("/3", "h/3"),
        ("/3/", "h/3"),
        ("/2/deep", "h/2/"),
        ("/2/deep/er", "h/2/deep/er/"),
        ("/%32/x", "h/2/"),
        ("/2%2Fdeep/er", "h/2/deep/er/"),
        ("/sp%20ace", "h/sp ace/"),
        ("/%3", "h/"),
        ("/%zz", "h/"),
    ] {
        assert_eq!(table.find(0, "h", path).map(String::as_str), Some(want), "{path}");
    }
}

#[test]
fn a_bad_route_is_told_and_affects_no_other() {
    let (table, problems) =
        table(&[("a", "/"), ("lost", "/sub/"), ("b", "/"), ("a", "/"), ("*.lost", "/")]);
    let reasons: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            format!("route {} is not served: route {} has the same match", id(0), id(3)),
            format!("route {} is not served: its domain lost has no route for /", id(1)),
        ]
    );
    assert_eq!(table.len(), 3);
    assert!(table.find(0, "a", "/").is_some() && table.find(0, "b", "/").is_some());
    assert!(Domain::parse("").is_err() && PathPrefix::parse("x").is_err());
}

#[test]
fn tcp_routes_have_a_port_each() {
    let tcp = |number, port| Rule { id: id(number), matcher: Matcher::Tcp { port } };
    let rules = [(tcp(1, 3000), "a"), (tcp(2, 3001), "b"), (tcp(3, 3000), "c"), (tcp(4, 0), "d")];
    let (table, problems) = Table::build(rules);
    let ports: Vec<_> =
        table.tcp().map(|(port, id, payload)| (port, id.clone(), *payload)).collect();
    assert_eq!(ports, [(3000, id(3), "c"), (3001, id(2), "b")]);
    assert_eq!(
        problems,
        [
            Problem { id: id(1), reason: Reason::Shadowed(id(3)) },
            Problem { id: id(4), reason: Reason::BadPort(0) },
        ]
    );
}

/// The rules of spec/router.md §4, tried one route after the other.
fn linear<'a>(
    routes: &'a [(String, String)],
    host: &str,
    path: &str,
) -> Option<&'a (String, String)> {
    let parts: Vec<&str> = host.splitn(5, '.').collect();
    let mut patterns = vec![host.to_owned()];
    for last in (1..=parts.len()).rev() {
        patterns.push(format!("*.{}", parts[parts.len() - last..].join(".")));
    }
    patterns.push("*".to_owned());
    let segments = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let wanted = segments(path);
    for pattern in patterns {
        let of_domain: Vec<_> = routes.iter().filter(|(domain, _)| *domain == pattern).collect();
        // A domain without its root has no route at all.
        if !of_domain.iter().any(|(_, path)| segments(path).is_empty()) {
            continue;
        }
        let prefixes =
            of_domain.into_iter().filter(|(_, path)| wanted.starts_with(&segments(path)));
        return prefixes.max_by_key(|(_, path)| segments(path).len());
    }
    None
}

fn a_host() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..8).prop_map(|l| l.join("."))
}

fn a_domain() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => a_host(),
        4 => a_host().prop_map(|host| format!("*.{host}")),
        1 => Just("*".to_owned()),
    ]
}

fn a_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["x", "y", ""]), 0..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_linear_matcher(
        mut routes in prop::collection::vec((a_domain(), prop_oneof![Just("/".to_owned()), a_path()]), 0..24),
        questions in prop::collection::vec((a_host(), a_path()), 1..24),
    ) {
        // Of two routes with one match the later wins, so only those that can win are kept.
        let mut seen = BTreeSet::new();
        routes.reverse();
        routes.retain(|(domain, path)| {
            let path = PathPrefix::parse(path).unwrap();
            seen.insert((domain.clone(), path))
        });
        let rules = routes.iter().enumerate().map(|(n, route)| (http(n, &route.0, &route.1), route.clone()));
        let (table, problems) = Table::build(rules);
        prop_assert_eq!(table.len() + problems.len(), routes.len());
        for (host, path) in questions {
            prop_assert_eq!(table.find(0, &host, &path), linear(&routes, &host, &path), "{} {}", host, path);
        }
    }

    #[test]
    fn a_choice_tries_each_backend_at_most_once(
        count in 0..9_usize, seed: u64, preferred in prop::option::of(0..12_usize), loads: [u8; 9],
        avoided: [bool; 9],
    ) {
        let mut choice = Choice::new(seed);
        let mut tried = Vec::new();
        let (is_avoided, load) = (|index: usize| avoided[index], |index: usize| u64::from(loads[index]));
        while let Some(index) = choice.next(count, preferred, is_avoided, load) {
            prop_assert!(index < count && !tried.contains(&index));
            let better = (0..count).any(|other| !avoided[other] && !tried.contains(&other));
            prop_assert!(!(avoided[index] && better), "{} of {:?} after {:?}", index, avoided, tried);
            tried.push(index);
        }
        prop_assert_eq!(tried.len(), count.min(MAX_ATTEMPTS));
        if let Some(preferred) = preferred.filter(|preferred| *preferred < count && !avoided[*preferred]) {
            prop_assert_eq!(tried[0], preferred);
        }
    }

    #[test]
    fn the_busiest_backend_is_never_chosen_while_another_is_left(count in 2..9_usize, seed: u64) {
        let busiest = count / 2;
        let first = Choice::new(seed).next(count, None, |_| false, |index| u64::from(index == busiest));
        prop_assert!(first.is_some_and(|first| first != busiest));
    }

    #[test]
    fn an_order_holds_every_backend_once(
        count in 0..9_usize, seed: u64, preferred in prop::option::of(0..9_usize),
    ) {
        let order = shuffled(count, preferred, seed);
        let sorted: BTreeSet<_> = order.iter().copied().collect();
        prop_assert_eq!(sorted, (0..count).collect());
        if preferred.is_some_and(|preferred| preferred < count) {
            prop_assert_eq!(order.first().copied(), preferred);
        }
    }

    #[test]
    fn a_fleet_ends_where_the_list_says(
        lists in prop::collection::vec(prop::collection::btree_set(0..5_u8, 0..5), 1..12),
        drained: [bool; 12],
    ) {
        let backend = |number: &u8| Backend { addr: format!("h:{number}"), app: String::new(), job: String::new() };
        let mut fleet = Fleet::default();
        let (mut up, mut draining) = (BTreeSet::new(), BTreeSet::new());
        for (list, drained) in lists.iter().zip(drained) {
            let now: Vec<_> = list.iter().map(backend).collect();
            for step in fleet.listed(&now) {
                match step {
                    Step::Start(b) => prop_assert!(!draining.contains(&b) && up.insert(b)),
                    Step::Resume(b) => prop_assert!(draining.remove(&b) && up.insert(b)),
                    Step::Drain(b) => prop_assert!(up.remove(&b) && draining.insert(b)),
                    Step::Forget(_) => prop_assert!(false, "only the end of a request forgets"),
                }
            }
            prop_assert_eq!(&up, &now.iter().cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(&up, &fleet.up().cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(&draining, &fleet.draining().cloned().collect::<BTreeSet<_>>());
            if drained {
                for backend in std::mem::take(&mut draining) {
                    prop_assert_eq!(fleet.drained(&backend), Some(Step::Forget(backend.clone())));
                    prop_assert_eq!(fleet.drained(&backend), None);
                }
                for backend in &up {
                    prop_assert_eq!(fleet.drained(backend), None, "a listed backend is not drained");
                }
            }
        }
    }
}

#[test]
fn many_draws_spread_over_all_backends() {
    let mut hits = [0_u32; 5];
    for seed in 0..5_000 {
        hits[Choice::new(seed).next(5, None, |_| false, |_| 0).unwrap()] += 1;
    }
    assert!(hits.iter().all(|hits| (800..1200).contains(hits)), "{hits:?}");
}
