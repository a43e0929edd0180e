//! What a server does with requests, its own and those that others forward to it.

use std::collections::BTreeMap;

use discoverd_registry::{Command, Election, LogIndex, Registration};

use super::{Ask, Event, Purpose, Said, World, client_id, counter, service};

impl World {
    pub(super) fn request(
        &mut self,
        client: usize,
        to: usize,
        token: u64,
        ask: Ask,
        forwarded: bool,
    ) {
        let server = &self.servers[to];
        if !server.up {
            return;
        }
        if server.leads.is_none() && !matches!(ask, Ask::Count) {
            if let Some(leader) = server.leader.filter(|leader| !forwarded && *leader != to) {
                let pass = || Event::Request { client, to: leader, token, ask, forwarded: true };
                self.stage.send(to, leader, pass);
            }
            return;
        }
        match ask {
            Ask::Put => self.put(client, to, token),
            Ask::Leave => {
                let command = Command::RemoveInstance { service: service(), id: client_id(client) };
                self.propose(to, command, Purpose::Client { client, token });
            }
            Ask::Count => {
                let said = match server.registry().meta(super::COUNTER) {
                    None => Said::Count { index: 0, value: 0 },
                    Some(meta) => Said::Count { index: meta.index.0, value: value_of(&meta.data) },
                };
                self.reply(to, client, token, said);
            }
            Ask::Raise { expected, from } => {
                let data = format!("{} {client} {token}", from + 1).into();
                let expected = LogIndex(expected);
                let command = Command::SetMeta { service: counter(), data, expected, leader: None };
                self.propose(to, command, Purpose::Client { client, token });
            }
        }
    }

    /// A mere sign of life is in no log.
    fn put(&mut self, client: usize, to: usize, token: u64) {
        let (now, id) = (self.stage.now(), client_id(client));
        let server = &mut self.servers[to];
        let mono = server.clock.mono(now);
        let registration = registration(client);
        if server.leased.heartbeat(super::SERVICE, id.as_str(), &registration, mono) {
            self.monitor.heard(to, server.driven, id.as_str(), mono);
            return self.reply(to, client, token, Said::Done);
        }
        let missing = [service(), counter()].into_iter();
        let missing: Vec<_> =
            missing.filter(|name| server.registry().election(name.as_str()).is_none()).collect();
        for service in missing {
            let add = Command::AddService { service, election: Election::Oldest };
            self.propose(to, add, Purpose::Client { client, token: 0 });
        }
        let add = Command::AddInstance { service: service(), id, registration };
        self.propose(to, add, Purpose::Client { client, token });
    }

    pub(super) fn reply(&mut self, from: usize, client: usize, token: u64, said: Said) {
        let node = self.servers.len() + client;
        self.stage.send(from, node, || Event::Reply { client, token, said });
    }
}

fn registration(client: usize) -> Registration {
    Registration {
        addr: format!("10.0.0.{client}:80"),
        proto: "tcp".to_owned(),
        meta: BTreeMap::new(),
    }
}

/// The count in a text such as `7 client token`.
pub(super) fn value_of(data: &str) -> u64 {
    data.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default()
}
