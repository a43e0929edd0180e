//! The addresses of a host's jobs: given, written down, linked, taken back, and read again after an end. What
//! is in memory, on the disk and in the kernel is never changed in one step, as in `host-network`.

use std::net::Ipv4Addr;
use std::time::Duration;

use host_job::{Addresses, Block};
use kit_ids::{AppId, JobId};

use super::host::Program;
use super::{AGENT, BIG, DB, Event, FAST, WEB, World};

/// How long an address is nobody's before another app gets it.
const REST: Duration = Duration::from_secs(60);
/// A clock that is a thousandth too fast makes that a little less.
const SURELY: Duration = Duration::from_millis(59_900);

impl World {
    /// Whether the host had an address for the job. It is used once it is on the disk.
    pub(super) fn give_address(&mut self, number: usize, job: &JobId) -> bool {
        let now = self.stage.now();
        let host = &mut self.hosts[number];
        let Some(record) = host.disk.read().get(job) else { return false };
        let (app, mono) = (app(record.process.as_str()), host.clock.mono(now));
        let given = host.addresses.give(job, Some(&app), block(number), REST, mono);
        host.addresses_on_disk.write(host.addresses.clone());
        self.stage.note(format_args!("host {number} has an address for {job}: {given:?}"));
        given.is_ok()
    }

    /// From here on the job is reached. Nobody else may have its address, and no other app shortly before.
    pub(super) fn link(&mut self, number: usize, job: &JobId, process: &str) -> Ipv4Addr {
        let host = &mut self.hosts[number];
        host.addresses_on_disk.sync();
        host.links.insert(job.clone());
        let Some(held) = host.addresses.held().get(job) else { panic!("{job} has no address") };
        let ip = held.ip;
        let mut running = self.hosts.iter().flat_map(|host| host.programs.values());
        let other = running.find(|program| program.ip == ip);
        assert!(other.is_none(), "{job} gets the address of {other:?}");
        if let Some((before, ended)) = self.had.get(&ip) {
            let rested = self.stage.now() - *ended;
            assert!(
                *before == app(process) || rested >= SURELY,
                "{job} gets {ip} of another app {rested:?} after its end"
            );
        }
        ip
    }

    /// Its program has ended, however that was.
    pub(super) fn had_address(&mut self, program: &Program) {
        let now = self.stage.now();
        self.had.insert(program.ip, (app(program.process.as_str()), now));
    }

    /// The link goes at once, what is written of it later.
    pub(super) fn take_address_back(&mut self, number: usize, job: &JobId) {
        let (now, takes) = (self.stage.now(), self.stage.random.millis(1, 300));
        let host = &mut self.hosts[number];
        host.links.remove(job);
        if host.addresses.take_back(job, host.clock.mono(now)).is_some() {
            let boot = host.boot;
            self.stage.after(takes, Event::AddressesSynced { host: number, boot });
        }
    }

    pub(super) fn addresses_synced(&mut self, number: usize, boot: u64) {
        let host = &mut self.hosts[number];
        if host.up && host.boot == boot {
            host.addresses_on_disk.write(host.addresses.clone());
            host.addresses_on_disk.sync();
        }
    }

    /// A new daemon reads what the last one wrote, and takes back what has no link.
    pub(super) fn read_addresses(&mut self, number: usize) {
        let now = self.stage.now();
        let host = &mut self.hosts[number];
        let written = host.addresses_on_disk.read();
        let resting = written.resting().map(|(ip, app)| (ip, app.cloned()));
        host.addresses = Addresses::read(written.held().clone(), resting, written.last());
        let unlinked = |job: &&JobId| !host.links.contains(*job);
        let gone: Vec<_> = host.addresses.held().keys().filter(unlinked).cloned().collect();
        for job in gone {
            host.addresses.take_back(&job, host.clock.mono(now));
        }
        for (job, program) in &host.programs {
            let held = host.addresses.held().get(job).map(|held| held.ip);
            assert_eq!(held, Some(program.ip), "{job} runs with an address nobody wrote down");
        }
    }
}

/// As many as jobs fit on a host.
fn block(host: usize) -> Block {
    let ip = |end| Ipv4Addr::from([10, 0, u8::try_from(host).unwrap_or(u8::MAX), end]);
    Block { first: ip(1), last: ip(14), bridge: ip(1) }
}

fn app(process: &str) -> AppId {
    let number = [WEB, BIG, FAST, DB, AGENT].iter().position(|name| *name == process);
    let text = format!("0a000000-0000-4000-8000-00000000000{}", number.unwrap_or(9));
    text.parse().expect("an app's id")
}
