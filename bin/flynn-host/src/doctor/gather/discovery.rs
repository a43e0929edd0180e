//! One server of discoverd: who leads, who votes, which hosts are registered. Answered from its own copy,
//! so that one without a quorum still tells what it knows.

use std::net::Ipv4Addr;

use discoverd_api::{Instance, RaftLeader, RaftMember, Servers};

use super::{brief, ip_in, ip_of, registry};
use crate::doctor::facts::ServerAnswer;

/// Where hosts are registered.
const HOSTS: &str = "/services/flynn-host/instances";

/// A server that answers.
#[derive(Debug)]
pub(super) struct ServerSeen {
    pub(super) answer: ServerAnswer,
    /// The hosts that are registered, as it knows them.
    pub(super) hosts: Vec<Instance>,
}

/// Asks a server for everything at once; None when it does not answer.
pub(super) async fn ask(ip: Ipv4Addr, port: u16) -> Option<ServerSeen> {
    let server = registry(ip, port).ok()?;
    let (peers, leader, members, hosts) = tokio::join!(
        server.get_json::<Vec<String>>("/raft/peers"),
        server.get_json::<RaftLeader>("/raft/leader"),
        server.get_json::<Vec<RaftMember>>("/raft/members"),
        server.get_json::<Vec<Instance>>(HOSTS),
    );
    let learners = members.ok().map(|members| {
        let learners = members.iter().filter(|member| !member.votes);
        learners.filter_map(|member| ip_in(&member.addr)).collect()
    });
    let answer = ServerAnswer {
        leader: leader.ok().and_then(|leader| ip_in(&leader.host)),
        voters: peers.ok()?.iter().filter_map(|addr| ip_in(addr)).collect(),
        learners,
    };
    Some(ServerSeen { answer, hosts: hosts.unwrap_or_default() })
}

/// The hosts that the first server that answers has registered.
pub(super) async fn hosts_of_first(servers: &Servers) -> Vec<Ipv4Addr> {
    for url in servers.urls() {
        let Ok(server) = brief(url) else { continue };
        if let Ok(hosts) = server.get_json::<Vec<Instance>>(HOSTS).await {
            return hosts.iter().filter_map(ip_of).collect();
        }
    }
    Vec::new()
}

impl ServerAnswer {
    /// Every server it names.
    pub(super) fn everybody(&self) -> Vec<Ipv4Addr> {
        let learners = self.learners.iter().flatten();
        self.voters.iter().chain(learners).chain(&self.leader).copied().collect()
    }
}
