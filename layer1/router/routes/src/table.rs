//! The immutable table of routes. Built whole from all rules, replaced whole at a change; a lookup
//! allocates nothing unless a path holds escapes or a host capitals.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kit_ids::RouteId;

use crate::rule::{DEFAULT_PORT, Domain, Matcher, PathPrefix, Problem, Reason, Rule};

/// Hosts are split into at most this many parts when wildcards are tried; the last part keeps the
/// rest, so `*.b` is not found for a host of more labels (spec/router.md §4).
const MAX_PARTS: usize = 5;

/// Routes by what they match, each with a `T`.
#[derive(Clone, Debug)]
pub struct Table<T> {
    /// By port; nearly always just [`DEFAULT_PORT`].
    http: BTreeMap<u16, Domains<T>>,
    tcp: BTreeMap<u16, (RouteId, T)>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { http: BTreeMap::new(), tcp: BTreeMap::new(), len: 0 }
    }
}

impl<T> Table<T> {
    /// Builds the table. Of two rules with the same match the later one wins. A rule that cannot be
    /// served is told in the problems and affects no other.
    pub fn build(rules: impl IntoIterator<Item = (Rule, T)>) -> (Self, Vec<Problem>) {
        let mut builder = Builder::default();
        for (rule, payload) in rules {
            builder.add(rule, payload);
        }
        builder.finish()
    }

    /// The route of a request: `port` is [`DEFAULT_PORT`] for the default ports, `host` may carry a
    /// port of its own, `path` is as it stands in the request line, without the query.
    pub fn find(&self, port: u16, host: &str, path: &str) -> Option<&T> {
        let host = lower_case(without_port(host));
        self.http.get(&port)?.find(&host)?.find(path)
    }

    /// The route of a whole domain, for the certificate of a TLS server name.
    pub fn find_domain(&self, port: u16, name: &str) -> Option<&T> {
        Some(&self.http.get(&port)?.find(&lower_case(name))?.root.1)
    }

    /// The route of a TCP port.
    pub fn find_tcp(&self, port: u16) -> Option<&T> {
        self.tcp.get(&port).map(|(_, payload)| payload)
    }

    /// All TCP routes by port.
    pub fn tcp(&self) -> impl Iterator<Item = (u16, &RouteId, &T)> {
        self.tcp.iter().map(|(port, (id, payload))| (*port, id, payload))
    }

    /// How many routes are served.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no route is served.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The domains of one port.
#[derive(Clone, Debug)]
struct Domains<T> {
    exact: BTreeMap<Box<str>, Paths<T>>,
    /// Keyed by what follows `*.`.
    below: BTreeMap<Box<str>, Paths<T>>,
    any: Option<Paths<T>>,
}

impl<T> Domains<T> {
    fn find(&self, host: &str) -> Option<&Paths<T>> {
        self.exact.get(host).or_else(|| self.find_wildcard(host)).or(self.any.as_ref())
    }

    /// From the most to the least specific: the whole host, then with its labels taken off in front.
    fn find_wildcard(&self, host: &str) -> Option<&Paths<T>> {
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        for _ in 0..MAX_PARTS {
            if let Some(found) = self.below.get(rest) {
                return Some(found);
            }
            (_, rest) = rest.split_once('.')?;
        }
        None
    }
}

impl<T> Default for Domains<T> {
    fn default() -> Self {
        Self { exact: BTreeMap::new(), below: BTreeMap::new(), any: None }
    }
}

/// The routes of one domain. There is always one for `/`.
#[derive(Clone, Debug)]
struct Paths<T> {
    root: (RouteId, T),
    children: Children<T>,
}

type Children<T> = BTreeMap<Box<[u8]>, Node<T>>;

#[derive(Clone, Debug)]
struct Node<T> {
    route: Option<(RouteId, T)>,
    children: Children<T>,
}

impl<T> Paths<T> {
    /// The deepest prefix that has a route.
    fn find(&self, path: &str) -> Option<&T> {
        let mut best = &self.root.1;
        if self.children.is_empty() {
            return Some(best);
        }
        let path = unescape(path);
        let mut children = &self.children;
        for segment in path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()) {
            let Some(node) = children.get(segment) else { break };
            if let Some((_, payload)) = &node.route {
                best = payload;
            }
            children = &node.children;
        }
        Some(best)
    }
}

/// Rules sorted so that a domain's `/` comes before its longer paths and doubles meet.
struct Builder<T> {
    http: BTreeMap<(u16, Domain, PathPrefix), (RouteId, T)>,
    tcp: BTreeMap<u16, (RouteId, T)>,
    problems: Vec<Problem>,
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Self { http: BTreeMap::new(), tcp: BTreeMap::new(), problems: Vec::new() }
    }
}

impl<T> Builder<T> {
    fn add(&mut self, rule: Rule, payload: T) {
        let winner = rule.id.clone();
        let loser = match rule.matcher {
            Matcher::Http { port, domain, path } => {
                insert(self.http.entry((port, domain, path)), (rule.id, payload))
            }
            Matcher::Tcp { port: DEFAULT_PORT } => {
                self.problems.push(Problem { id: rule.id, reason: Reason::BadPort(0) });
                return;
            }
            Matcher::Tcp { port } => insert(self.tcp.entry(port), (rule.id, payload)),
        };
        if let Some((id, _)) = loser {
            self.problems.push(Problem { id, reason: Reason::Shadowed(winner) });
        }
    }

    fn finish(mut self) -> (Table<T>, Vec<Problem>) {
        let mut table = Table { http: BTreeMap::new(), tcp: self.tcp, len: 0 };
        table.len = table.tcp.len();
        for ((port, domain, path), route) in self.http {
            let domains: &mut Domains<T> = table.http.entry(port).or_default();
            match place(domains, &domain, &path, route) {
                None => table.len += 1,
                Some((id, _)) => {
                    self.problems.push(Problem { id, reason: Reason::NoRoot(domain) });
                }
            }
        }
        (table, self.problems)
    }
}

/// Puts a route in its place and returns the one that was there.
fn insert<K: Ord, V>(entry: Entry<'_, K, V>, value: V) -> Option<V> {
    match entry {
        Entry::Vacant(vacant) => {
            vacant.insert(value);
            None
        }
        Entry::Occupied(mut occupied) => Some(occupied.insert(value)),
    }
}

/// Hangs a route into the tree; a longer path without its root comes back.
fn place<T>(
    domains: &mut Domains<T>,
    domain: &Domain,
    path: &PathPrefix,
    route: (RouteId, T),
) -> Option<(RouteId, T)> {
    if path.is_root() {
        let paths = Paths { root: route, children: BTreeMap::new() };
        match domain {
            Domain::Exact(name) => drop(domains.exact.insert(name.clone(), paths)),
            Domain::Below(rest) => drop(domains.below.insert(rest.clone(), paths)),
            Domain::Any => domains.any = Some(paths),
        }
        return None;
    }
    let paths = match domain {
        Domain::Exact(name) => domains.exact.get_mut(name),
        Domain::Below(rest) => domains.below.get_mut(rest),
        Domain::Any => domains.any.as_mut(),
    };
    let Some(paths) = paths else { return Some(route) };
    hang(&mut paths.children, path.segments(), route);
    None
}

fn hang<T>(children: &mut Children<T>, segments: &[Box<[u8]>], route: (RouteId, T)) {
    let Some((first, rest)) = segments.split_first() else { return };
    let empty = || Node { route: None, children: BTreeMap::new() };
    let node = children.entry(first.clone()).or_insert_with(empty);
    if rest.is_empty() {
        node.route = Some(route);
    } else {
        hang(&mut node.children, rest, route);
    }
}

/// A host without `:port`. An IPv6 literal keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Undoes `%XX`; what is no escape stays as it is.
fn unescape(path: &str) -> Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                plain.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
