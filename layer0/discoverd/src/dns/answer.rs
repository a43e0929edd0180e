//! Answers to questions this server knows itself. Pure but for the order, which is drawn, so that load
//! spreads.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rand::seq::SliceRandom as _;

use super::name::{self, Wanted};
use super::zone::{Endpoint, Found, Zone};

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Answers must stay small.
    Udp,
    Tcp,
}

/// Addresses and services each of an answer over UDP.
const UDP_RECORDS: usize = 3;

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This is the answer.
    Known(Box<Message>),
    /// Somebody else knows.
    Elsewhere,
}

/// Answers one question, or says that it is about somebody else's name. `recursion` says whether others
/// are asked at all.
pub(super) fn answer(
    zone: &Zone,
    asked: &Message,
    transport: Transport,
    recursion: bool,
) -> Outcome {
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = recursion;
    let [query] = asked.queries.as_slice() else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return Outcome::Known(Box::new(reply));
    };
    reply.add_query(query.clone());
    if asked.metadata.op_code != OpCode::Query || asked.metadata.message_type != MessageType::Query
    {
        reply.metadata.response_code = ResponseCode::NotImp;
        return Outcome::Known(Box::new(reply));
    }
    let Some(wanted) = name::read(&query.name) else {
        return router_answer(zone, query, reply, transport);
    };
    reply.metadata.authoritative = true;
    service_answer(zone, query, &wanted, transport, &mut reply);
    Outcome::Known(Box::new(reply))
}

/// The refusal of a question that nobody could be asked about.
pub(super) fn server_failure(asked: &Message, recursion: bool) -> Message {
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = recursion;
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.queries.clone_from(&asked.queries);
    reply
}

fn router_answer(zone: &Zone, query: &Query, mut reply: Message, transport: Transport) -> Outcome {
    let Some((domain, addrs)) = zone.router(&query.name) else { return Outcome::Elsewhere };
    reply.metadata.authoritative = true;
    let mut addrs = addrs.to_vec();
    addrs.shuffle(&mut rand::rng());
    addrs.truncate(limit(transport));
    let records = addrs.into_iter().filter(|ip| asks_for(query.query_type, *ip));
    reply.answers.extend(records.map(|ip| address(query.name.clone(), ip)));
    if reply.answers.is_empty() {
        reply.authorities.push(soa(domain.clone(), zone.serial()));
    }
    Outcome::Known(Box::new(reply))
}

fn service_answer(
    zone: &Zone,
    query: &Query,
    wanted: &Wanted,
    transport: Transport,
    reply: &mut Message,
) {
    let own_soa = || soa(label(&Name::root(), "discoverd"), zone.serial());
    let Some(mut found) = zone.find(wanted) else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply.authorities.push(own_soa());
        return;
    };
    if query.query_type == RecordType::SOA {
        reply.answers.push(own_soa());
        return;
    }
    found.endpoints.shuffle(&mut rand::rng());
    if query.query_type == RecordType::SRV {
        services(query, &found, transport, reply);
    } else if query.query_type == RecordType::ANY {
        everything(query, &found, transport, reply);
    } else {
        let ips = distinct(&found.endpoints).into_iter().filter_map(|one| one.ip);
        let ips = ips.filter(|ip| asks_for(query.query_type, *ip)).take(limit(transport));
        reply.answers.extend(ips.map(|ip| address(query.name.clone(), ip)));
    }
    if reply.answers.is_empty() {
        reply.authorities.push(own_soa());
    }
}

/// The services, and over TCP where their targets are.
fn services(query: &Query, found: &Found, transport: Transport, reply: &mut Message) {
    for endpoint in found.endpoints.iter().take(limit(transport)) {
        let target = target(query, found, endpoint);
        reply.answers.push(service(query, endpoint, target.clone()));
        if let (Transport::Tcp, Some(ip)) = (transport, endpoint.ip) {
            reply.additionals.push(address(target, ip));
        }
    }
}

/// One address and one service for each machine: all addresses first.
fn everything(query: &Query, found: &Found, transport: Transport, reply: &mut Message) {
    let machines = distinct(&found.endpoints);
    let machines: Vec<_> = machines.into_iter().take(limit(transport)).collect();
    let ips = machines.iter().filter_map(|endpoint| endpoint.ip);
    reply.answers.extend(ips.map(|ip| address(query.name.clone(), ip)));
    for endpoint in machines {
        reply.answers.push(service(query, endpoint, target(query, found, endpoint)));
    }
}

/// The first endpoint of each address; those without one have no place here.
fn distinct(endpoints: &[Endpoint]) -> Vec<&Endpoint> {
    let mut seen = BTreeSet::new();
    endpoints.iter().filter(|endpoint| endpoint.ip.is_some_and(|ip| seen.insert(ip))).collect()
}

fn limit(transport: Transport) -> usize {
    match transport {
        Transport::Udp => UDP_RECORDS,
        Transport::Tcp => usize::MAX,
    }
}

fn asks_for(asked: RecordType, ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    asked == family || asked == RecordType::ANY
}

/// The name that stands for one instance: its own, or the one that was asked when that means one only.
fn target(query: &Query, found: &Found, endpoint: &Endpoint) -> Name {
    if !found.many {
        return query.name.clone();
    }
    let labels = [endpoint.id.as_str(), &found.service, "_i", "discoverd"];
    labels.iter().rev().fold(Name::root(), |name, text| label(&name, text))
}

/// `text` before `name`. Ids and names of services fit a label where they were accepted; anything else
/// is left out.
fn label(name: &Name, text: &str) -> Name {
    name.prepend_label(text).unwrap_or_else(|_| name.clone())
}

fn service(query: &Query, endpoint: &Endpoint, target: Name) -> Record {
    Record::from_rdata(query.name.clone(), 0, RData::SRV(SRV::new(1, 1, endpoint.port, target)))
}

fn address(name: Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name, 0, data)
}

fn soa(zone: Name, serial: u32) -> Record {
    let (ns, mbox) = (label(&zone, "ns"), label(&zone, "postmaster"));
    Record::from_rdata(zone, 0, RData::SOA(SOA::new(ns, mbox, serial, 3600, 600, 86400, 0)))
}
