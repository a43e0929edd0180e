//! From routes as the controller stores them to the table requests are matched against. Every route
//! stands alone: what is wrong with one is told and touches no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kit_ids::RouteId;
use router_api::{CertificateProblem, Route, RouteKind};
use routes::{Domain, Matcher, PathPrefix, Reason, Rule, Table};
use rustls::sign::CertifiedKey;

use crate::certificates::certified_key;
use crate::service::Service;
use crate::table::{Routed, Target};

/// Builds tables; keeps parsed key pairs from one to the next.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By the texts of certificate and key.
    pairs: BTreeMap<(String, String), Pair>,
}

type Pair = Result<Arc<CertifiedKey>, CertificateProblem>;

/// A table and what is to be said about it.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) table: Routed,
    pub(super) tcp_ports: BTreeSet<u16>,
    /// Routes that did not get into the table.
    pub(super) unserved: BTreeSet<RouteId>,
    pub(super) problems: Vec<String>,
}

impl Targets {
    pub(super) fn build<'a>(
        &mut self,
        routes: impl Iterator<Item = &'a Arc<Route>>,
        service: impl Fn(&str) -> Option<Arc<Service>>,
    ) -> Built {
        let mut routes: Vec<&Route> = routes.map(Arc::as_ref).collect();
        // Of two routes with one match the later one wins.
        routes.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let (mut rules, mut unserved) = (Vec::new(), BTreeSet::new());
        let mut problems = Vec::new();
        let mut pairs = BTreeMap::new();
        for route in routes {
            let Some(id) = route.id.clone() else { continue };
            let certificate = self.certificate(route, &mut pairs);
            let certificate = certificate.unwrap_or_else(|problem| {
                problems.push(format!(
                    "route {id} is served with the cluster's certificate: its own is invalid: {problem}"
                ));
                None
            });
            match rule(route, &id, &service) {
                Ok((rule, service)) => rules.push((rule, target(route, service, certificate))),
                Err(reason) => {
                    problems.push(routes::Problem { id: id.clone(), reason }.to_string());
                    unserved.insert(id);
                }
            }
        }
        self.pairs = pairs;
        let (table, conflicts) = Table::build(rules);
        unserved.extend(conflicts.iter().map(|problem| problem.id.clone()));
        problems.extend(conflicts.iter().map(ToString::to_string));
        let tcp_ports = table.tcp().map(|(port, _, _)| port).collect();
        Built { table, tcp_ports, unserved, problems }
    }

    /// The route's own key pair, parsed once for all routes and tables that use it.
    fn certificate(
        &mut self,
        route: &Route,
        pairs: &mut BTreeMap<(String, String), Pair>,
    ) -> Result<Option<Arc<CertifiedKey>>, CertificateProblem> {
        let Some(wanted) = route.wanted_certificate() else { return Ok(None) };
        let texts = (wanted.cert, wanted.key.expose().to_owned());
        if !pairs.contains_key(&texts) {
            let before = self.pairs.remove(&texts);
            let pair = before.unwrap_or_else(|| certified_key(&texts.0, &texts.1));
            pairs.insert(texts.clone(), pair);
        }
        pairs.get(&texts).cloned().transpose()
    }
}

fn rule(
    route: &Route,
    id: &RouteId,
    service: &impl Fn(&str) -> Option<Arc<Service>>,
) -> Result<(Rule, Arc<Service>), Reason> {
    let port = u16::try_from(route.port).map_err(|_| Reason::BadPort(route.port))?;
    let matcher = match route.kind {
        RouteKind::Http => {
            let (domain, path) = (Domain::parse(&route.domain)?, PathPrefix::parse(&route.path)?);
            Matcher::Http { port, domain, path }
        }
        RouteKind::Tcp => Matcher::Tcp { port },
    };
    let service = service(&route.service).ok_or(Reason::NoService)?;
    Ok((Rule { id: id.clone(), matcher }, service))
}

fn target(
    route: &Route,
    service: Arc<Service>,
    certificate: Option<Arc<CertifiedKey>>,
) -> Arc<Target> {
    let Route { leader, sticky, disable_keep_alives, .. } = *route;
    Arc::new(Target { service, leader, sticky, disable_keep_alives, certificate })
}
