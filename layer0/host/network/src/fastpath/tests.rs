//! Both programs in the kernel, packet by packet, beside what the rules say.

use proptest::prelude::*;

use super::*;
use crate::job::Partition;

/// Every frame of [`kit_bpf::Program::run`] comes over this link.
const LOOPBACK: u32 = 1;
const ELSEWHERE: u32 = 7;
const REDIRECTED: u32 = 7;
const LONG_WAY: u32 = u32::MAX;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What may be behind an address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Job(Partition),
    /// A job of this host that the program does not know.
    Unknown,
    OtherHost,
    Internet,
}

const PLACES: [(Place, [u8; 4]); 6] = [
    (Place::Job(Partition::User), [10, 77, 0, 2]),
    (Place::Job(Partition::Background), [10, 77, 0, 3]),
    (Place::Job(Partition::System), [10, 77, 0, 4]),
    (Place::Unknown, [10, 77, 0, 5]),
    (Place::OtherHost, [10, 77, 9, 2]),
    (Place::Internet, [192, 0, 2, 1]),
];

#[derive(Clone, Debug)]
struct Packet {
    from: (Place, [u8; 4]),
    to: (Place, [u8; 4]),
    ports: (u16, u16),
    protocol: u8,
    tos: u8,
    fragment: u16,
    options: bool,
    ethertype: u16,
    mac: [u8; 6],
}

impl Packet {
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0xfe, 1, 10, 77, 0, 1];
        frame.extend(self.mac);
        frame.extend(self.ethertype.to_be_bytes());
        frame.extend([if self.options { 0x46 } else { 0x45 }, self.tos, 0, 64, 0, 0]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(self.from.1);
        frame.extend(self.to.1);
        frame.extend(if self.options { &[1; 4][..] } else { &[] });
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.resize(14 + 64, 0);
        frame
    }

    /// Whether it is one of those that may go the short way at all.
    fn is_plain(&self) -> bool {
        self.ethertype == 0x0800 && !self.options && self.fragment & 0x3fff == 0
    }

    fn is_database(&self, port: u16) -> bool {
        self.protocol == TCP && [3306, 5432, 6379, 27017].contains(&port)
    }

    /// The rules of the module's documentation, for a packet that a job sent.
    fn is_short_for_a_job(&self) -> bool {
        use Partition::{System, User};
        let (Place::Job(from), Place::Job(to)) = (self.from.0, self.to.0) else { return false };
        let own_mac = [&[0xfe, 0][..], &self.from.1].concat();
        let pair = match (from, to) {
            (User, User) | (System, System) => true,
            (System, _) => self.is_database(self.ports.0),
            (_, System) => self.is_database(self.ports.1),
            _ => false,
        };
        self.is_plain() && self.mac[..] == own_mac && pair
    }

    /// And for one that came out of the tunnel.
    fn is_short_from_the_tunnel(&self) -> bool {
        let labelled = [9, 17, 25].contains(&(self.tos >> 2));
        let gets = match self.to.0 {
            Place::Job(Partition::User) => true,
            Place::Job(Partition::System) => self.is_database(self.ports.1),
            Place::Job(Partition::Background)
            | Place::Unknown
            | Place::OtherHost
            | Place::Internet => false,
        };
        self.is_plain() && self.from.0 == Place::OtherHost && labelled && gets
    }
}

fn packets() -> impl Strategy<Value = Packet> {
    let place = || proptest::sample::select(PLACES.to_vec());
    let port = || prop_oneof![Just(5432_u16), Just(6379), Just(8080), Just(40_000), any::<u16>()];
    let protocol = prop_oneof![4 => Just(TCP), 1 => Just(UDP), 1 => Just(1)];
    let tos = prop_oneof![Just(9_u8 << 2), Just(17 << 2 | 1), Just(25 << 2), any::<u8>()];
    let fragment = prop_oneof![6 => Just(0_u16), 2 => Just(0x4000), 1 => any::<u16>()];
    let ethertype = prop_oneof![9 => Just(0x0800_u16), 1 => Just(0x86dd), 1 => Just(0x0806)];
    let shape = (fragment, proptest::bool::weighted(0.1), ethertype, any::<Option<[u8; 6]>>());
    (place(), place(), port(), port(), protocol, tos, shape).prop_map(
        |(from, to, source, destination, protocol, tos, (fragment, options, ethertype, mac))| {
            let [a, b, c, d] = from.1;
            let mac = mac.unwrap_or([0xfe, 0, a, b, c, d]);
            let ports = (source, destination);
            Packet { from, to, ports, protocol, tos, fragment, options, ethertype, mac }
        },
    )
}

/// Programs that know one job of each kind, all behind the link the frames come over.
fn tables() -> Tables {
    let config = Config::new("/nonexistent", Ipv4Addr::LOCALHOST);
    let tables = Tables::load(&config).unwrap();
    for (place, ip) in PLACES {
        if let Place::Job(partition) = place {
            tables.put(ip.into(), LOOPBACK, partition).unwrap();
        }
    }
    tables
}

fn way(link: u32) -> Option<Tunnel> {
    let [network, own] = ["10.77.0.0/16", "10.77.0.0/24"].map(|text| text.parse().unwrap());
    Some(Tunnel { link, network, own })
}

#[test]
fn what_a_job_sends_goes_the_short_way_only_where_all_of_the_flow_may() {
    let tables = tables();
    // There is no route through this link: what would go there goes the long way.
    tables.lead(way(LOOPBACK)).unwrap();
    proptest!(|(packet in packets())| {
        let (answer, left) = tables.from_job.run(&packet.frame()).unwrap();
        let wanted = if packet.is_short_for_a_job() { REDIRECTED } else { LONG_WAY };
        prop_assert_eq!(answer, wanted);
        prop_assert_eq!(left, packet.frame());
    });
}

#[test]
fn what_comes_out_of_the_tunnel_goes_the_short_way_only_where_all_of_the_flow_may() {
    let tables = tables();
    tables.lead(way(LOOPBACK)).unwrap();
    proptest!(|(packet in packets())| {
        let (answer, _) = tables.from_tunnel.run(&packet.frame()).unwrap();
        let wanted = if packet.is_short_from_the_tunnel() { REDIRECTED } else { LONG_WAY };
        prop_assert_eq!(answer, wanted);
    });
}

fn between(from: usize, to: usize) -> Packet {
    let [a, b, c, d] = PLACES[from].1;
    Packet {
        from: PLACES[from],
        to: PLACES[to],
        ports: (40_000, 8080),
        protocol: TCP,
        tos: 17 << 2,
        fragment: 0,
        options: false,
        ethertype: 0x0800,
        mac: [0xfe, 0, a, b, c, d],
    }
}

#[test]
fn who_is_not_known_any_more_is_not_led_to() {
    let (tables, packet) = (tables(), between(0, 0));
    assert_eq!(tables.from_job.run(&packet.frame()).unwrap().0, REDIRECTED);
    tables.put(packet.from.1.into(), ELSEWHERE, Partition::User).unwrap();
    assert_eq!(tables.from_job.run(&packet.frame()).unwrap().0, LONG_WAY, "of another's link");
    tables.put(packet.from.1.into(), LOOPBACK, Partition::User).unwrap();
    tables.remove(packet.from.1.into()).unwrap();
    assert_eq!(tables.from_job.run(&packet.frame()).unwrap().0, LONG_WAY);
}

#[test]
fn only_the_tunnel_that_was_told_is_one() {
    let (tables, packet) = (tables(), between(4, 0));
    for (told, wanted) in [
        (None, LONG_WAY),
        (way(LOOPBACK), REDIRECTED),
        (way(ELSEWHERE), LONG_WAY),
        (None, LONG_WAY),
    ] {
        tables.lead(told).unwrap();
        assert_eq!(tables.from_tunnel.run(&packet.frame()).unwrap().0, wanted, "{told:?}");
        assert_eq!(tables.leads(LOOPBACK), told == way(LOOPBACK));
    }
}
