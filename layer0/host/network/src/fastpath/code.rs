//! The two programs. Each answers -1 (go the long way) or what a redirection answers; nothing is dropped
//! that the long way would let pass.

use std::collections::BTreeSet;

use kit_bpf::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use kit_bpf::{AssembleError, Assembler, Helper, Instruction, Label, Map, Register, Width};

use super::tables::class;
use crate::job::Partition;

/// Where in the kernel's `struct __sk_buff` a packet's protocol is, whether it has a VLAN tag, and the number
/// of the link it came over.
const PROTOCOL: i16 = 16;
const HAS_VLAN: i16 = 20;
const LINK: i16 = 40;

/// The stack. First the packet up to the ports, which a header of 20 bytes without options has at a fixed
/// place: Ethernet 14, IPv4 20, ports 4. The addresses come to lie on multiples of 4.
const PACKET: i16 = -38;
const PACKET_SIZE: i32 = 38;
const SOURCE_MAC: i16 = PACKET + 6;
const VERSION: i16 = PACKET + 14;
const TOS: i16 = PACKET + 15;
const FRAGMENT: i16 = PACKET + 20;
const TRANSPORT: i16 = PACKET + 23;
const SOURCE: i16 = PACKET + 26;
const DESTINATION: i16 = PACKET + 30;
const SOURCE_PORT: i16 = PACKET + 34;
const DESTINATION_PORT: i16 = PACKET + 36;
/// Then a `struct bpf_fib_lookup`, a key, and the first two bytes of an IPv4 header to be.
const ROUTE: i16 = -104;
const ROUTE_SIZE: i32 = 64;
const ROUTE_LINK: i16 = ROUTE + 8;
const ROUTE_SOURCE: i16 = ROUTE + 16;
const ROUTE_DESTINATION: i16 = ROUTE + 32;
const ROUTE_OWN_MAC: i16 = ROUTE + 52;
const ROUTE_NEXT_MAC: i16 = ROUTE + 58;
const KEY: i16 = -112;
const NEW_TOS: i16 = -119;
const NEW_VERSION: i16 = -120;

/// In a packet.
const TOS_AT: i32 = 15;
const CHECKSUM_AT: i32 = 24;

/// In a value of the table of jobs.
const JOB_LINK: i16 = 0;
const JOB_CLASS: i16 = 4;
/// In a value of the table of tunnels.
const NETWORK: i16 = 0;
const NETWORK_MASK: i16 = 4;
const OWN: i16 = 8;
const OWN_MASK: i16 = 12;
const TUNNEL: i16 = 16;

const INET: i32 = 2;
const IPV4: u16 = 0x0800;
const TCP: i32 = 6;
const ANSWER_LONG_WAY: i32 = -1;
const ANSWER_DROP: i32 = 2;

/// What both programs keep in registers: the packet, the link to go to, and whose the two ends are.
const CONTEXT: Register = R6;
const TO_LINK: Register = R7;
const OWN_CLASS: Register = R8;
const OTHER_CLASS: Register = R9;
/// Where the destination is behind the tunnel: the way there.
const WAY: Register = R9;

/// For packets that come from a job.
pub(super) fn from_job(
    jobs: &Map,
    tunnel: &Map,
    ports: &BTreeSet<u16>,
) -> Result<Vec<Instruction>, AssembleError> {
    let mut code = Assembler::new();
    let [long_way, deliver, elsewhere] = [(); 3].map(|()| code.label());
    let [to_database, from_database] = [(); 2].map(|()| code.label());
    read_packet(&mut code, long_way);
    // It must be whose link it came over: what the pins of the firewall ask, asked here.
    find(&mut code, jobs, SOURCE);
    code.if_equal(R0, 0, long_way);
    code.load(Width::Word, R1, R0, JOB_LINK);
    code.load(Width::Word, R2, CONTEXT, LINK);
    code.if_not_same(R1, R2, long_way);
    code.load(Width::Word, OWN_CLASS, R0, JOB_CLASS);
    is_jobs_mac(&mut code, long_way);

    find(&mut code, jobs, DESTINATION);
    code.if_equal(R0, 0, elsewhere);
    code.load(Width::Word, TO_LINK, R0, JOB_LINK);
    code.load(Width::Word, OTHER_CLASS, R0, JOB_CLASS);
    let (user, system) = (number(Partition::User), number(Partition::System));
    let alike = code.label();
    code.if_same(OWN_CLASS, OTHER_CLASS, alike);
    code.if_equal(OWN_CLASS, system, from_database);
    code.if_equal(OTHER_CLASS, system, to_database);
    code.jump(long_way);
    code.place(alike);
    code.if_equal(OWN_CLASS, user, deliver);
    code.if_equal(OWN_CLASS, system, deliver);
    code.jump(long_way);
    code.place(from_database);
    is_tcp_port(&mut code, SOURCE_PORT, ports, deliver, long_way);
    code.place(to_database);
    is_tcp_port(&mut code, DESTINATION_PORT, ports, deliver, long_way);

    code.place(elsewhere);
    through_tunnel(&mut code, tunnel, ports, long_way);
    code.place(deliver);
    hand_over(&mut code);
    code.place(long_way);
    code.set(R0, ANSWER_LONG_WAY);
    code.exit();
    code.finish()
}

/// For packets that come out of the tunnel. The input chain has seen that a known host sent them.
pub(super) fn from_tunnel(
    jobs: &Map,
    tunnel: &Map,
    ports: &BTreeSet<u16>,
) -> Result<Vec<Instruction>, AssembleError> {
    let mut code = Assembler::new();
    let [long_way, deliver, labelled] = [(); 3].map(|()| code.label());
    read_packet(&mut code, long_way);
    find_way(&mut code, tunnel, long_way);
    code.load(Width::Word, R1, WAY, TUNNEL);
    code.load(Width::Word, R2, CONTEXT, LINK);
    code.if_not_same(R1, R2, long_way);
    is_elsewhere(&mut code, SOURCE, long_way);
    code.load(Width::Byte, R1, R10, TOS);
    code.and(R1, 0xfc);
    for partition in Partition::ALL {
        code.if_equal(R1, number(partition), labelled);
    }
    code.jump(long_way);

    code.place(labelled);
    find(&mut code, jobs, DESTINATION);
    code.if_equal(R0, 0, long_way);
    code.load(Width::Word, TO_LINK, R0, JOB_LINK);
    code.load(Width::Word, OWN_CLASS, R0, JOB_CLASS);
    code.if_equal(OWN_CLASS, number(Partition::User), deliver);
    code.if_not_equal(OWN_CLASS, number(Partition::System), long_way);
    is_tcp_port(&mut code, DESTINATION_PORT, ports, deliver, long_way);

    code.place(deliver);
    hand_over(&mut code);
    code.place(long_way);
    code.set(R0, ANSWER_LONG_WAY);
    code.exit();
    code.finish()
}

fn number(partition: Partition) -> i32 {
    class(partition) as i32
}

/// Puts the packet's beginning on the stack: IPv4 without options, whole, without a VLAN tag.
fn read_packet(code: &mut Assembler, otherwise: Label) {
    code.copy(CONTEXT, R1);
    code.load(Width::Word, R2, CONTEXT, PROTOCOL);
    code.if_not_equal(R2, i32::from(IPV4.to_be()), otherwise);
    code.load(Width::Word, R2, CONTEXT, HAS_VLAN);
    code.if_not_equal(R2, 0, otherwise);
    code.set(R2, 0);
    code.on_stack(R3, PACKET);
    code.set(R4, PACKET_SIZE);
    code.call(Helper::LoadBytes);
    code.if_not_equal(R0, 0, otherwise);
    code.load(Width::Byte, R1, R10, VERSION);
    code.if_not_equal(R1, 0x45, otherwise);
    // More fragments, or an offset.
    code.load(Width::Half, R1, R10, FRAGMENT);
    code.and(R1, i32::from(0x3fff_u16.to_be()));
    code.if_not_equal(R1, 0, otherwise);
}

/// R0: the table's value for the word on the stack, or 0.
fn find(code: &mut Assembler, table: &Map, word: i16) {
    code.map(R1, table);
    code.on_stack(R2, word);
    code.call(Helper::MapLookup);
}

/// A job's hardware address is `fe:00` and its IP address.
fn is_jobs_mac(code: &mut Assembler, otherwise: Label) {
    code.load(Width::Half, R1, R10, SOURCE_MAC);
    code.if_not_equal(R1, i32::from(0xfe00_u16.to_be()), otherwise);
    for half in [0, 2] {
        code.load(Width::Half, R1, R10, SOURCE_MAC + 2 + half);
        code.load(Width::Half, R2, R10, SOURCE + half);
        code.if_not_same(R1, R2, otherwise);
    }
}

/// One of both must be jumped to.
fn is_tcp_port(
    code: &mut Assembler,
    port: i16,
    ports: &BTreeSet<u16>,
    then: Label,
    otherwise: Label,
) {
    code.load(Width::Byte, R1, R10, TRANSPORT);
    code.if_not_equal(R1, TCP, otherwise);
    code.load(Width::Half, R1, R10, port);
    for port in ports {
        code.if_equal(R1, i32::from(port.to_be()), then);
    }
    code.jump(otherwise);
}

/// WAY: the way to other hosts.
fn find_way(code: &mut Assembler, tunnel: &Map, otherwise: Label) {
    code.set(R1, 0);
    code.store(Width::Word, R10, KEY, R1);
    find(code, tunnel, KEY);
    code.if_equal(R0, 0, otherwise);
    code.copy(WAY, R0);
}

/// Whether an address of the packet is one of the cluster, but not of this host.
fn is_elsewhere(code: &mut Assembler, address: i16, otherwise: Label) {
    code.load(Width::Word, R1, R10, address);
    code.load(Width::Word, R2, WAY, NETWORK_MASK);
    code.and_register(R1, R2);
    code.load(Width::Word, R2, WAY, NETWORK);
    code.if_not_same(R1, R2, otherwise);
    code.load(Width::Word, R1, R10, address);
    code.load(Width::Word, R2, WAY, OWN_MASK);
    code.and_register(R1, R2);
    code.load(Width::Word, R2, WAY, OWN);
    code.if_same(R1, R2, otherwise);
}

/// To another host, as the routing table says, labelled.
fn through_tunnel(code: &mut Assembler, tunnel: &Map, ports: &BTreeSet<u16>, otherwise: Label) {
    find_way(code, tunnel, otherwise);
    is_elsewhere(code, DESTINATION, otherwise);
    let go = code.label();
    code.if_equal(OWN_CLASS, number(Partition::User), go);
    code.if_not_equal(OWN_CLASS, number(Partition::System), otherwise);
    is_tcp_port(code, SOURCE_PORT, ports, go, otherwise);
    code.place(go);
    code.load(Width::Word, TO_LINK, WAY, TUNNEL);
    find_route(code, otherwise);
    write_label(code, otherwise);
    // The packet is changed: from here on there is no way back.
    for (at, from) in [(0, ROUTE_NEXT_MAC), (6, ROUTE_OWN_MAC)] {
        write(code, at, from, 6);
    }
    code.copy(R1, TO_LINK);
    code.set(R2, 0);
    code.call(Helper::Redirect);
    code.exit();
}

/// ROUTE: how the routing table leads to the packet's destination, if that is through the tunnel, with the
/// hardware addresses.
fn find_route(code: &mut Assembler, otherwise: Label) {
    code.set(R1, 0);
    for at in (0..ROUTE_SIZE as i16).step_by(8) {
        code.store(Width::Double, R10, ROUTE + at, R1);
    }
    code.set(R1, INET);
    code.store(Width::Byte, R10, ROUTE, R1);
    code.load(Width::Word, R1, CONTEXT, LINK);
    code.store(Width::Word, R10, ROUTE_LINK, R1);
    for (to, from) in [(ROUTE_SOURCE, SOURCE), (ROUTE_DESTINATION, DESTINATION)] {
        code.load(Width::Word, R1, R10, from);
        code.store(Width::Word, R10, to, R1);
    }
    code.copy(R1, CONTEXT);
    code.on_stack(R2, ROUTE);
    code.set(R3, ROUTE_SIZE);
    code.set(R4, 0);
    code.call(Helper::FibLookup);
    code.if_not_equal(R0, 0, otherwise);
    code.load(Width::Word, R1, R10, ROUTE_LINK);
    code.if_not_same(R1, TO_LINK, otherwise);
}

/// Says whose the packet is; the two bits of ECN stay, and the checksum is made right.
fn write_label(code: &mut Assembler, otherwise: Label) {
    code.set(R1, 0x45);
    code.store(Width::Byte, R10, NEW_VERSION, R1);
    code.load(Width::Byte, R1, R10, TOS);
    code.and(R1, 3);
    code.or_register(R1, OWN_CLASS);
    code.store(Width::Byte, R10, NEW_TOS, R1);
    code.copy(R1, CONTEXT);
    code.set(R2, CHECKSUM_AT);
    code.load(Width::Half, R3, R10, VERSION);
    code.load(Width::Half, R4, R10, NEW_VERSION);
    code.set(R5, 2);
    code.call(Helper::ReplaceL3Checksum);
    code.if_not_equal(R0, 0, otherwise);
    write(code, TOS_AT, NEW_TOS, 1);
}

/// Writes into the packet what is on the stack; where that fails, the packet is lost.
fn write(code: &mut Assembler, at: i32, from: i16, size: i32) {
    let written = code.label();
    code.copy(R1, CONTEXT);
    code.set(R2, at);
    code.on_stack(R3, from);
    code.set(R4, size);
    code.set(R5, 0);
    code.call(Helper::StoreBytes);
    code.if_equal(R0, 0, written);
    code.set(R0, ANSWER_DROP);
    code.exit();
    code.place(written);
}

/// To the job behind TO_LINK. Its hardware address is not in the packet, for the bridge's was asked; so it
/// is said that the packet is for this link.
fn hand_over(code: &mut Assembler) {
    code.copy(R1, CONTEXT);
    code.set(R2, 0);
    code.call(Helper::ChangeType);
    code.copy(R1, TO_LINK);
    code.set(R2, 0);
    code.call(Helper::RedirectPeer);
    code.exit();
}
