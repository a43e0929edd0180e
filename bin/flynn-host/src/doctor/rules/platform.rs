//! The platform above discoverd: database, controller, schedulers, routers, their jobs, and the domains that
//! lead to apps.

use std::net::IpAddr;

use super::discovery::{Quorum, quorum};
use crate::doctor::facts::{Facts, JobState, RouteFacts, Seen, Wanted};
use crate::doctor::finding::Finding;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(database(facts));
    all.extend(controller(facts));
    all.extend(scheduler(facts));
    all.extend(router(facts));
    all.extend(short(facts));
    all.extend(facts.platform.routes.iter().filter_map(|route| nowhere(facts, route)));
    all.extend(facts.platform.routes.iter().filter_map(empty));
    all
}

/// A part of the platform that has a finding; where its jobs run tells what to look at.
fn look(facts: &Facts, app: &str, found: Finding) -> Finding {
    let jobs = facts.answering().filter_map(|(host, _)| facts.job_of(host.ip, app));
    let jobs: Vec<_> = jobs.collect();
    let active = jobs.iter().find(|job| job.state == JobState::Active);
    let last = jobs.iter().min_by_key(|job| job.state.ended_ago());
    match active.or(last) {
        Some(job) => found.next(format!("flynn-host log {}", job.id)),
        None => found.next("flynn-host ps -a"),
    }
}

fn unwell(facts: &Facts, app: &str, seen: &str) -> String {
    let hosts = facts.hosts_running(app);
    if !hosts.is_empty() {
        return format!("{seen}; it runs on {}", hosts.join(", "));
    }
    let silent: Vec<_> = facts.hosts.iter().filter(|host| host.answer.is_err()).collect();
    let silent: Vec<_> = silent.iter().map(|host| host.name()).collect();
    if silent.is_empty() {
        format!("{seen}; no host runs it")
    } else {
        format!("{seen}; no host that answers runs it, and {} is silent", silent.join(", "))
    }
}

fn database(facts: &Facts) -> Option<Finding> {
    let Seen::Unwell(reason) = &facts.platform.database else { return None };
    let seen = unwell(facts, "postgres", &format!("PostgreSQL is away: {reason}"));
    let found = Finding::critical("database-away", seen)
        .why("the controller refuses changes, no push or deployment works; apps go on");
    let found = look(facts, "postgres", found);
    let gone = facts.hosts_running("postgres").is_empty();
    let silent = facts.hosts.iter().find(|host| host.answer.is_err()).filter(|_| gone);
    Some(silent.iter().fold(found, |found, host| found.next_on(host.name(), "flynn-host start")))
}

fn controller(facts: &Facts) -> Option<Finding> {
    let Seen::Unwell(reason) = &facts.platform.controller else { return None };
    let seen = unwell(facts, "controller", &format!("the controller is away: {reason}"));
    let found = Finding::critical("controller-away", seen)
        .why("nobody can deploy, scale or look; apps go on");
    Some(look(facts, "controller", found))
}

/// None of a service that the platform needs, where discoverd can say so.
fn missing(facts: &Facts, service: &str) -> bool {
    let settled = matches!(quorum(facts), Quorum::Held { .. });
    let services = facts.platform.services.as_ref().filter(|_| settled);
    services.is_some_and(|services| services.get(service).is_none_or(|count| *count == 0))
}

fn scheduler(facts: &Facts) -> Option<Finding> {
    missing(facts, "controller-scheduler").then(|| {
        let seen = unwell(facts, "scheduler", "no scheduler is registered");
        let found = Finding::critical("scheduler-away", seen)
            .why("jobs of lost hosts are not started elsewhere, and nothing can be scaled");
        look(facts, "scheduler", found)
    })
}

fn router(facts: &Facts) -> Option<Finding> {
    missing(facts, "router-api").then(|| {
        let seen = unwell(facts, "router", "no router is registered");
        let found =
            Finding::critical("router-away", seen).why("no request from outside reaches any app");
        look(facts, "router", found)
    })
}

/// Process types with fewer jobs than are wanted.
fn short(facts: &Facts) -> Vec<Finding> {
    let wanted = facts.platform.wanted.iter().flatten();
    wanted.filter_map(|wanted| short_of(facts, wanted)).collect()
}

fn short_of(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    // On which hosts a tagged one belongs is the scheduler's to say.
    if wanted.on_every_host && wanted.tagged {
        return None;
    }
    let hosts = facts.answering().filter(|(host, _)| host.registered).count();
    let count = if wanted.on_every_host { wanted.count * hosts } else { wanted.count };
    let jobs = facts.answering().flat_map(|(_, answer)| &answer.jobs);
    let running = jobs.filter(|job| {
        job.state == JobState::Active && job.app == wanted.app && job.process == wanted.process
    });
    let running = running.count();
    let waits = |job: &crate::doctor::facts::Waiting| {
        job.app == wanted.app && job.process == wanted.process
    };
    // Those that wait have a finding that says why.
    if running >= count || facts.platform.waiting.iter().any(waits) {
        return None;
    }
    let seen = format!("{running} of {count} jobs of {} {} run", wanted.app, wanted.process);
    let found = match (wanted.system, running) {
        (true, 0) => Finding::critical("platform-short", seen),
        (true, _) => Finding::warning("platform-short", seen),
        (false, _) => Finding::warning("app-short", seen),
    };
    let why = "the rest carries the load; with none left it does not serve";
    Some(found.why(why).next(format!("flynn -a {} ps", wanted.app)))
}

/// A domain that leads to none of the hosts.
fn nowhere(facts: &Facts, route: &RouteFacts) -> Option<Finding> {
    let hosts: Vec<IpAddr> = facts.hosts.iter().map(|host| IpAddr::V4(host.ip)).collect();
    let ours = |ip: &IpAddr| ip.is_loopback() || hosts.contains(ip);
    let addresses = route.addresses.as_ref()?;
    if addresses.iter().any(ours) {
        return None;
    }
    let list: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let records = format!("dig +short {}   # should be {}", route.domain, list.join(", "));
    if addresses.is_empty() {
        let seen = format!("{} has a route, and the name leads nowhere", route.domain);
        let why = "whoever asks for it by name does not arrive";
        return Some(Finding::warning("name-nowhere", seen).why(why).next(records));
    }
    let there: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let seen = format!("{} leads to {}, which is no host", route.domain, there.join(", "));
    let why = "right where a load balancer stands before the hosts, and wrong elsewhere";
    Some(Finding::note("name-elsewhere", seen).why(why).next(records))
}

/// A domain whose app runs nothing that answers.
fn empty(route: &RouteFacts) -> Option<Finding> {
    if route.backends != Some(0) {
        return None;
    }
    let seen = format!("{} leads to an app without a job that answers", route.domain);
    let why = "requests for it get 503";
    let (app, wanted) = (&route.app, route.wanted);
    if app.is_empty() {
        let found = Finding::note("route-empty", seen).why(why);
        return Some(found.next("flynn route"));
    }
    Some(if wanted == 0 {
        Finding::note("route-empty", seen).why(why).next(format!("flynn -a {app} scale web=1"))
    } else {
        Finding::warning("route-empty", seen).why(why).next(format!("flynn -a {app} ps"))
    })
}
