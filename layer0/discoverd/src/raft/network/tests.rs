//! What a leader tells another member, and when: the other one is a socket here.

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{Membership, RaftMetrics, StoredMembership};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::dial::Direct;
use super::super::frame::MARK;
use super::super::gated::{Gate, entry, gated_store};
use super::super::log::Log;
use super::super::types::{Entry, Vote};
use super::*;

const ME: NodeId = 1;
const OTHER: NodeId = 2;
const TERM: u64 = 1;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A leader with an entry of its own on its disk.
struct Leader {
    log: Log,
    gate: Gate,
    metrics: watch::Sender<RaftMetrics<NodeId, BasicNode>>,
    peer: Peer,
}

/// The other member.
struct Other {
    listener: TcpListener,
    stream: Option<BufReader<TcpStream>>,
}

fn vote() -> Vote {
    Vote::new_committed(TERM, ME)
}

fn own(index: u64) -> Entry {
    entry(TERM, ME, index)
}

fn id(index: u64) -> Option<LogId> {
    Some(own(index).log_id)
}

/// Entries behind `upto`, which is committed.
fn append(entries: &[Entry], upto: Option<LogId>) -> AppendEntriesRequest<Types> {
    let (vote, entries) = (vote(), entries.to_vec());
    AppendEntriesRequest { vote, prev_log_id: upto, entries, leader_commit: upto }
}

/// A leader among so many voters, and another one of them.
async fn pair(voters: NodeId) -> (Leader, Other) {
    let (store, gate) = gated_store();
    let mut log = Log::new(store.clone(), ME);
    log.save_vote(&vote()).await.unwrap();
    let mut metrics = RaftMetrics::new_initial(ME);
    metrics.vote = vote();
    let membership = Membership::new(vec![(1..=voters).collect()], None);
    metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
    let (metrics, known) = watch::channel(metrics);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let majority = Majority::default();
    majority.known_by(known);
    let mut network = Network { dialer: Arc::new(Direct), store, majority };
    let peer = network.new_client(OTHER, &BasicNode::new(listener.local_addr().unwrap())).await;
    let mut leader = Leader { log, gate, metrics, peer };
    leader.add(0).await;
    leader.peer.store.on_disk(id(0)).await.unwrap();
    (leader, Other { listener, stream: None })
}

impl Leader {
    /// Puts an entry to its log, which its disk may hold up.
    async fn add(&mut self, index: u64) {
        self.log.blocking_append([own(index)]).await.unwrap();
        self.metrics.send_modify(|metrics| metrics.last_log_index = Some(index));
    }

    async fn tell(&mut self, rpc: AppendEntriesRequest<Types>) -> AppendEntriesResponse<NodeId> {
        self.peer.append_entries(rpc, RPCOption::new(PATIENCE)).await.unwrap()
    }

    /// Whether something was told that the library has not asked for.
    fn is_ahead(&self) -> bool {
        self.peer.connection.as_ref().unwrap().ahead.is_some()
    }
}

impl Other {
    async fn stream(&mut self) -> &mut BufReader<TcpStream> {
        if self.stream.is_none() {
            let mut stream = BufReader::new(self.listener.accept().await.unwrap().0);
            assert_eq!(stream.read_u8().await.unwrap(), MARK);
            self.stream = Some(stream);
        }
        self.stream.as_mut().unwrap()
    }

    /// Indexes of the entries it is sent, and up to where they are committed.
    async fn hears(&mut self) -> (Vec<u64>, Option<LogId>) {
        match frame::read(self.stream().await).await.unwrap() {
            Some(Request::Append(OTHER, AppendEntriesRequest { entries, leader_commit, .. })) => {
                (entries.iter().map(|entry| entry.log_id.index).collect(), leader_commit)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn answers(&mut self, answer: AppendEntriesResponse<NodeId>) {
        let bytes = frame::encode(&Response::Append(Ok(answer))).unwrap();
        frame::write(self.stream().await, &bytes).await.unwrap();
    }

    /// Hears of one entry, up to where all is committed, and answers at once.
    async fn takes(&mut self, index: u64, upto: Option<LogId>) {
        assert_eq!(self.hears().await, (vec![index], upto));
        self.answers(AppendEntriesResponse::Success).await;
    }

    /// Hears of entry 0 and that it is committed, and answers the first.
    async fn follows(&mut self) {
        assert_eq!(self.hears().await, (vec![0], None));
        assert_eq!(self.hears().await, (vec![], id(0)), "nothing was answered yet");
        self.answers(AppendEntriesResponse::Success).await;
    }
}

#[tokio::test]
async fn a_commit_is_told_before_the_answer_and_not_again_when_the_library_asks() {
    let (mut leader, mut other) = pair(3).await;
    let (answer, ()) = tokio::join!(leader.tell(append(&[own(0)], None)), other.follows());
    assert_eq!(answer, AppendEntriesResponse::Success);
    assert!(leader.is_ahead());
    other.answers(AppendEntriesResponse::PartialSuccess(id(0))).await;
    let answer = leader.tell(append(&[], id(0))).await;
    assert_eq!(answer, AppendEntriesResponse::PartialSuccess(id(0)), "nothing was sent for it");
    // A heartbeat says the same and is sent.
    let heartbeat = async {
        assert_eq!(other.hears().await, (vec![], id(0)));
        other.answers(AppendEntriesResponse::Conflict).await;
    };
    let (answer, ()) = tokio::join!(leader.tell(append(&[], id(0))), heartbeat);
    assert_eq!(answer, AppendEntriesResponse::Conflict);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_the_next_ones() {
    let (mut leader, mut other) = pair(3).await;
    tokio::join!(leader.tell(append(&[own(0)], None)), other.follows());
    leader.add(1).await;
    leader.peer.store.on_disk(id(1)).await.unwrap();
    let next = async {
        assert_eq!(other.hears().await, (vec![1], id(0)));
        other.answers(AppendEntriesResponse::Conflict).await;
        assert_eq!(other.hears().await, (vec![], id(1)));
        other.answers(AppendEntriesResponse::Success).await;
    };
    let (answer, ()) = tokio::join!(leader.tell(append(&[own(1)], id(0))), next);
    assert_eq!(answer, AppendEntriesResponse::Success);
    assert!(leader.is_ahead());
}

#[tokio::test]
async fn nothing_is_told_ahead_that_two_have_of_five() {
    let (mut leader, mut other) = pair(5).await;
    tokio::join!(leader.tell(append(&[own(0)], None)), other.takes(0, None));
    assert!(!leader.is_ahead());
}

#[tokio::test]
async fn nothing_is_told_ahead_that_is_not_on_the_leaders_disk() {
    let (mut leader, mut other) = pair(3).await;
    leader.gate.set(false);
    leader.add(1).await;
    tokio::join!(leader.tell(append(&[own(1)], id(0))), other.takes(1, id(0)));
    assert!(!leader.is_ahead());
}

#[tokio::test]
async fn a_newer_entry_brings_the_news_itself() {
    let (mut leader, mut other) = pair(3).await;
    leader.gate.set(false);
    leader.add(1).await;
    tokio::join!(leader.tell(append(&[own(0)], None)), other.takes(0, None));
    assert!(!leader.is_ahead());
}

#[tokio::test]
async fn other_members_hear_of_a_commit_when_the_leaders_disk_has_it() {
    let (mut leader, _) = pair(3).await;
    leader.gate.set(false);
    leader.add(1).await;
    let told = leader.peer.settled(id(1), Duration::from_millis(1)).await;
    assert_eq!(told, id(0), "the older one is committed all the same");
    leader.gate.set(true);
    assert_eq!(leader.peer.settled(id(1), Duration::MAX).await, id(1));
}
