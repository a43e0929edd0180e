//! DNS over real sockets: the captured table over UDP and TCP, the cluster's domain, recursion.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use discoverd::{ClusterDomain, Config, DnsConfig};
use discoverd_api::{Instance, ServiceConfig};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{Server, config, patiently};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Udp,
    Tcp,
}

async fn question(dns: SocketAddr, name: &str, kind: RecordType, over: Over) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = message.to_vec().unwrap();
    let answer = patiently("a DNS answer", async {
        match over {
            Over::Udp => {
                let socket = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
                socket.send_to(&bytes, dns).await.unwrap();
                let mut buffer = vec![0; 65535];
                let length = socket.recv(&mut buffer).await.unwrap();
                buffer.truncate(length);
                buffer
            }
            Over::Tcp => {
                let mut stream = TcpStream::connect(dns).await.unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut buffer).await.unwrap();
                buffer
            }
        }
    })
    .await;
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    answer
}

/// A section as sorted lines.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's record types are none of ours")]
fn lines(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    let line = |record: &hickory_proto::rr::Record| {
        let data = match &record.data {
            RData::A(a) => format!("A {a}"),
            RData::AAAA(a) => format!("AAAA {a}"),
            RData::SRV(srv) => {
                format!("SRV {} {} {} {}", srv.priority, srv.weight, srv.port, srv.target)
            }
            RData::SOA(soa) => format!(
                "SOA {} {} {} {} {} {}",
                soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum
            ),
            _ => format!("{:?}", record.data),
        };
        format!("{} {} {data}", record.name, record.ttl)
    };
    let mut lines: Vec<_> = records.iter().map(line).collect();
    lines.sort();
    lines
}

fn with_dns(dir: &tempfile::TempDir, recursors: Vec<SocketAddr>) -> Config {
    let listen = SocketAddr::from(LOOPBACK);
    Config { dns: Some(DnsConfig { listen, recursors }), ..config(dir.path()) }
}

async fn with_service(config: Config) -> (Server, SocketAddr) {
    let server = Server::start(config).await;
    server.client.add_service("a", ServiceConfig::default()).await.unwrap();
    for addr in ["192.168.0.1:80", "192.168.0.2:81", "192.168.0.3:82"] {
        server.client.put_instance("a", &Instance::new("tcp", addr)).await.unwrap();
    }
    let dns = server.running.addrs[1];
    (server, dns)
}

const SOA: &str = "discoverd. 0 SOA ns.discoverd. postmaster.discoverd. 3600 600 86400 0";
const IDS: [&str; 3] = [
    "4df73837547dfb0b0ba0fef6f7a171e7",
    "80a4f3ae997ae420f6f1d48b46aa5f4c",
    "f3d883537e5f5d590bd77b244361b6b0",
];

fn addresses(name: &str) -> Vec<String> {
    (1..=3).map(|n| format!("{name} 0 A 192.168.0.{n}")).collect()
}

fn services(name: &str) -> Vec<String> {
    let line = |(port, id)| format!("{name} 0 SRV 1 1 {port} {id}.a._i.discoverd.");
    (80..).zip(IDS).map(line).collect()
}

fn targets() -> Vec<String> {
    (1..).zip(IDS).map(|(n, id)| format!("{id}.a._i.discoverd. 0 A 192.168.0.{n}")).collect()
}

#[tokio::test]
async fn the_table_of_answers_holds_over_udp_and_tcp() {
    use RecordType::{A, AAAA, ANY, SOA as ASK_SOA, SRV, TXT};
    let dir = tempfile::tempdir().unwrap();
    let (server, dns) = with_service(with_dns(&dir, Vec::new())).await;
    let one = |text: &str| vec![text.to_owned()];
    let soa = || one(SOA);
    let none = Vec::new;
    let instance = format!("{}.a._i.discoverd.", IDS[0]);
    let both = [addresses("a.discoverd."), services("a.discoverd.")].concat();
    let leader = "leader.a.discoverd.";
    // name, type, answers, authorities, additionals over TCP
    let table = [
        ("a.discoverd.", A, addresses("a.discoverd."), none(), none()),
        ("a.discoverd.", AAAA, none(), soa(), none()),
        ("a.discoverd.", TXT, none(), soa(), none()),
        ("a.discoverd.", SRV, services("a.discoverd."), none(), targets()),
        ("a.discoverd.", ANY, both, none(), none()),
        ("a.discoverd.", ASK_SOA, soa(), none(), none()),
        ("_a._tcp.discoverd.", SRV, services("_a._tcp.discoverd."), none(), targets()),
        ("_a._udp.discoverd.", SRV, none(), soa(), none()),
        (&instance, A, one(&format!("{instance} 0 A 192.168.0.1")), none(), none()),
        (
            &instance,
            SRV,
            one(&format!("{instance} 0 SRV 1 1 80 {instance}")),
            none(),
            one(&format!("{instance} 0 A 192.168.0.1")),
        ),
        (leader, A, one("leader.a.discoverd. 0 A 192.168.0.1"), none(), none()),
        (
            leader,
            SRV,
            one("leader.a.discoverd. 0 SRV 1 1 80 leader.a.discoverd."),
            none(),
            one("leader.a.discoverd. 0 A 192.168.0.1"),
        ),
        (leader, AAAA, none(), soa(), none()),
        (leader, ASK_SOA, soa(), none(), none()),
        ("A.DISCOVERD.", A, addresses("A.DISCOVERD."), none(), none()),
    ];
    for over in [Over::Udp, Over::Tcp] {
        for (name, kind, answers, authorities, additionals) in &table {
            let found = question(dns, name, *kind, over).await;
            let context = format!("{name} {kind} {over:?}");
            assert_eq!(found.metadata.response_code, ResponseCode::NoError, "{context}");
            assert!(found.metadata.authoritative && found.metadata.recursion_desired, "{context}");
            assert!(!found.metadata.recursion_available && !found.metadata.truncation, "{context}");
            let mut answers = answers.clone();
            answers.sort();
            assert_eq!(lines(&found.answers), answers, "{context}");
            assert_eq!(lines(&found.authorities), *authorities, "{context}");
            let extras = if over == Over::Tcp { additionals.clone() } else { none() };
            assert_eq!(lines(&found.additionals), extras, "{context}");
        }
        for name in [
            "b.discoverd.",
            "foo.a._i.discoverd.",
            "asdf.b.discoverd.",
            "leader.b.discoverd.",
            "discoverd.",
        ] {
            for kind in [A, SRV, ASK_SOA] {
                let found = question(dns, name, kind, over).await;
                assert_eq!(
                    found.metadata.response_code,
                    ResponseCode::NXDomain,
                    "{name} {kind} {over:?}"
                );
                assert_eq!((lines(&found.answers), lines(&found.authorities)), (none(), soa()));
            }
        }
        let found = question(dns, "example.com.", A, over).await;
        assert_eq!(found.metadata.response_code, ResponseCode::ServFail);
        assert!(!found.metadata.authoritative && !found.metadata.recursion_available);
    }
    server.stop().await;
}

#[tokio::test]
async fn many_instances_fit_a_datagram_and_come_whole_over_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dns) = with_service(with_dns(&dir, Vec::new())).await;
    for addr in ["192.168.0.4:83", "192.168.0.5:84", "192.168.0.5:85", "[2001:db8::1]:80", "db:80"]
    {
        server.client.put_instance("a", &Instance::new("tcp", addr)).await.unwrap();
    }
    for (kind, over, count) in [
        (RecordType::A, Over::Udp, 3),
        (RecordType::ANY, Over::Udp, 6),
        (RecordType::SRV, Over::Udp, 3),
        (RecordType::A, Over::Tcp, 5),
        (RecordType::AAAA, Over::Tcp, 1),
        (RecordType::ANY, Over::Tcp, 12),
        (RecordType::SRV, Over::Tcp, 8),
    ] {
        let found = question(dns, "a.discoverd.", kind, over).await;
        assert_eq!(found.answers.len(), count, "{kind} {over:?}");
        assert!(!found.metadata.truncation);
        let first = found.answers.iter().take_while(|r| r.record_type() != RecordType::SRV).count();
        let rest = &found.answers[first..];
        assert!(rest.iter().all(|r| r.record_type() == RecordType::SRV), "addresses come first");
    }
    let mut firsts = BTreeSet::new();
    for _ in 0..50 {
        firsts.insert(lines(
            &question(dns, "a.discoverd.", RecordType::A, Over::Udp).await.answers[..1],
        ));
    }
    assert!(firsts.len() > 1, "answers are shuffled");
    server.stop().await;
}

#[tokio::test]
async fn names_of_the_clusters_domain_are_the_routers() {
    let dir = tempfile::tempdir().unwrap();
    let domain = ClusterDomain {
        name: "flynn.localhost".to_owned(),
        addrs: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
    };
    let server = Server::start(Config { domain: Some(domain), ..with_dns(&dir, Vec::new()) }).await;
    let dns = server.running.addrs[1];
    for name in ["hello.flynn.localhost.", "Git.Flynn.localhost.", "flynn.localhost."] {
        let found = question(dns, name, RecordType::A, Over::Udp).await;
        let want = [1, 2].map(|n| format!("{name} 0 A 192.0.2.{n}"));
        assert_eq!(lines(&found.answers), want);
        let found = question(dns, name, RecordType::AAAA, Over::Tcp).await;
        assert_eq!((found.metadata.response_code, found.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(found.authorities.len(), 1);
    }
    let found = question(dns, "other.localhost.", RecordType::A, Over::Udp).await;
    assert_eq!(found.metadata.response_code, ResponseCode::ServFail);
    server.stop().await;
}

/// A recursor that answers every question over both transports with this address.
async fn recursor(tasks: &kit_tasks::Tasks, last: u8) -> SocketAddr {
    let tcp = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).await.unwrap();
    let answer = move |question: &[u8]| {
        let mut message = Message::from_vec(question).unwrap().into_response();
        let name = message.queries[0].name.clone();
        let a = hickory_proto::rr::rdata::A::new(203, 0, 113, last);
        for _ in 0..100 {
            message.add_answer(hickory_proto::rr::Record::from_rdata(
                name.clone(),
                60,
                RData::A(a),
            ));
        }
        message.to_vec().unwrap()
    };
    tasks.spawn_until_stop("udp", async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&answer(&buffer[..length]), peer).await.unwrap();
        }
    });
    tasks.spawn_until_stop("tcp", async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn other_names_are_asked_of_each_recursor_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = kit_tasks::Tasks::root("recursors");
    let alive = recursor(&tasks, 7).await;
    let dead = {
        let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let (server, dns) = with_service(with_dns(&dir, vec![dead, alive])).await;
    for over in [Over::Udp, Over::Tcp] {
        let found = question(dns, "example.com.", RecordType::A, over).await;
        assert_eq!(found.answers.len(), 100, "a long answer passes as it is");
        let own = question(dns, "a.discoverd.", RecordType::A, over).await;
        assert!(own.metadata.recursion_available && own.metadata.authoritative);
    }
    server.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let (server, dns) = with_service(with_dns(&dir, vec![dead])).await;
    for over in [Over::Udp, Over::Tcp] {
        let found = question(dns, "example.com.", RecordType::A, over).await;
        assert_eq!(found.metadata.response_code, ResponseCode::ServFail);
        assert!(found.metadata.recursion_available);
    }
    server.stop().await;
    tasks.shutdown(crate::support::PATIENCE).await;
}
