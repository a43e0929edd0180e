//! The journal beside a model of it, on disks that lose power.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::{CommittedLeaderId, EntryPayload};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::command::{LogCommand, Proposal};
use super::super::fragile::{FragileDisk, FragileFile, Images};
use super::*;

/// So small that extents and files are outgrown all the time, and most entries are read from disk.
const SIZES: Sizes = Sizes { extent: 512, full: 2048, warm: 300 };

fn entry(term: u64, index: u64, length: usize) -> Entry {
    let command = LogCommand::RemoveService { service: "x".repeat(length) };
    let payload = EntryPayload::Normal(Proposal::new(vec![command]));
    Entry { log_id: LogId::new(CommittedLeaderId::new(term, 1), index), payload }
}

fn open(disk: &FragileDisk<2>) -> Result<Journal, StoreError> {
    Journal::open(disk.files().map(|file| Box::new(file) as _), SIZES)
}

fn create(disk: &FragileDisk<2>) -> Journal {
    Journal::create(disk.files().map(|file| Box::new(file) as _), SIZES, None).unwrap()
}

fn append(journal: &Journal, entries: Vec<Entry>) {
    let (done, written) = completion();
    journal.append(entries, done).unwrap();
    wait(&written).unwrap();
}

fn purge(journal: &Journal, upto: LogId) {
    let (done, written) = completion();
    journal.purge(upto, done).unwrap();
    wait(&written).unwrap();
}

fn indices(journal: &Journal) -> Vec<u64> {
    journal.entries(&..).unwrap().iter().map(|entry| entry.log_id.index).collect()
}

fn synced(disk: &FragileDisk<2>) -> Images<2> {
    disk.images_after_the_cut(&mut StdRng::seed_from_u64(0))
}

/// What a log is.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, String>,
    last: Option<LogId>,
    purged: Option<LogId>,
}

impl Model {
    fn of(journal: &Journal) -> Self {
        let text = |entry: Entry| (entry.log_id.index, serde_json::to_string(&entry).unwrap());
        let entries = journal.entries(&..).unwrap().into_iter().map(text).collect();
        Self { entries, last: journal.last(), purged: journal.purged() }
    }

    fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.truncate(entry.log_id.index);
            self.entries.insert(entry.log_id.index, serde_json::to_string(entry).unwrap());
            self.last = Some(entry.log_id);
        }
    }

    fn truncate(&mut self, from: u64) {
        self.entries.split_off(&from);
        let last = self.entries.values().next_back();
        let last = last.map(|text| serde_json::from_str::<Entry>(text).unwrap().log_id);
        self.last = last.or(self.purged);
    }

    fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = Some(upto);
        if self.entries.is_empty() {
            self.last = Some(upto);
        }
    }
}

/// One random operation on both; whether the journal took it.
fn operate(
    random: &mut StdRng,
    journal: &Journal,
    model: &mut Model,
    term: u64,
    done: Done,
) -> bool {
    let (first, next) = (model.first(), model.next());
    match random.random_range(0..20) {
        0 if first < next => {
            let from = random.random_range(first..next);
            model.truncate(from);
            journal.truncate(from, done)
        }
        1 | 2 if first < next => {
            // Sometimes a snapshot of another member goes beyond this log.
            let beyond = u64::from(random.random::<bool>());
            let upto = random.random_range(first..next + beyond);
            let upto = LogId::new(CommittedLeaderId::new(term, 1), upto);
            model.purge(upto);
            journal.purge(upto, done)
        }
        kind => {
            let from = if kind == 3 { random.random_range(first..=next) } else { next };
            let many = random.random_range(1..4);
            let lengths = (0..many).map(|_| random.random_range(0..300)).collect::<Vec<_>>();
            let entries = (from..).zip(lengths).map(|(index, length)| entry(term, index, length));
            let entries: Vec<_> = entries.collect();
            model.append(&entries);
            journal.commit(entries.first().map(|entry| entry.log_id));
            journal.append(entries, done)
        }
    }
    .is_ok()
}

/// After any power cut the journal is as it was after some operation: none that was answered for is
/// missing, and none is there in part.
#[test]
fn power_cuts_lose_nothing_that_was_answered_for() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seeds = seed.map_or(0..60, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = FragileDisk::holding(Images::default());
        drop(create(&disk));
        let mut images = synced(&disk);
        let mut possible = vec![Model::default()];
        for round in 1..30 {
            let disk = FragileDisk::holding(images);
            let journal = open(&disk).unwrap_or_else(|error| panic!("SEED={seed}: {error}"));
            let mut model = Model::of(&journal);
            assert!(possible.contains(&model), "SEED={seed} round {round}: {model:#?}");
            assert!(journal.committed() <= journal.last(), "SEED={seed}");
            disk.cut_after(random.random_range(1..60));
            possible = vec![model.clone()];
            while !disk.is_cut() {
                let (done, written) = completion();
                let taken = operate(&mut random, &journal, &mut model, round, done);
                if !taken {
                    break;
                }
                assert_eq!(Model::of(&journal), model, "SEED={seed}: not what was added last");
                possible.push(model.clone());
                // Often more is added before the disk has this.
                if random.random() && wait(&written).is_ok() {
                    possible.drain(..possible.len() - 1);
                }
            }
            drop(journal);
            images = disk.images_after_the_cut(&mut random);
        }
    }
}

#[test]
fn a_torn_end_is_dropped_and_a_damaged_middle_is_refused() {
    let disk = FragileDisk::holding(Images::default());
    let journal = create(&disk);
    for index in 0..3 {
        append(&journal, vec![entry(1, index, 10)]);
    }
    drop(journal);
    let [whole, other] = synced(&disk);
    let text = |index: u64| {
        let text = format!("\"index\":{index}}}");
        whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
    };
    let without = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        open(&FragileDisk::holding([damaged, other.clone()]))
    };
    assert_eq!(indices(&without(text(2)).unwrap()), [0, 1], "nobody can tell it was answered for");
    for index in 0..2 {
        let error = without(text(index)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{index}: {error}");
    }
    let gone = open(&FragileDisk::holding(Images::default())).unwrap_err();
    assert!(matches!(gone, StoreError::Damaged(_)), "{gone}");
}

#[test]
fn the_files_take_turns_and_stay_small() {
    let disk = FragileDisk::holding(Images::default());
    let journal = create(&disk);
    let mut turns = [false; 2];
    for index in 0..400 {
        append(&journal, vec![entry(1, index, 50)]);
        if index % 10 == 9 {
            purge(&journal, LogId::new(CommittedLeaderId::new(1, 1), index - 5));
            assert_eq!(indices(&journal), (index - 4..=index).collect::<Vec<_>>());
        }
        turns[journal.lock().active] = true;
    }
    drop(journal);
    assert_eq!(turns, [true; 2]);
    let images = synced(&disk);
    let bound = usize::try_from(SIZES.full + 4 * SIZES.extent).unwrap();
    assert!(images.iter().all(|image| image.len() < 2 * bound), "they grow");
    assert_eq!(indices(&open(&FragileDisk::holding(images)).unwrap()), [395, 396, 397, 398, 399]);
}

#[test]
fn nothing_is_written_after_a_failure() {
    let disk = FragileDisk::holding(Images::default());
    let journal = create(&disk);
    append(&journal, vec![entry(1, 0, 1)]);
    disk.cut_after(1);
    let (done, written) = completion();
    journal.append(vec![entry(1, 1, 1)], done).unwrap();
    wait(&written).unwrap_err();
    assert!(journal.durable().borrow().failed.is_some());
    assert_eq!(journal.durable().borrow().last.map(|last| last.index), Some(0));
    let (done, _) = completion();
    journal.append(vec![entry(1, 2, 1)], done).unwrap_err();
}

/// Notes the longest write.
#[derive(Debug)]
struct Noting {
    file: FragileFile<2>,
    longest: Arc<AtomicUsize>,
}

impl StorageBackend for Noting {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.longest.fetch_max(data.len(), Ordering::Relaxed);
        self.file.write(offset, data)
    }
}

#[test]
fn room_is_filled_a_page_at_a_time() {
    let longest = Arc::new(AtomicUsize::new(0));
    let disk = FragileDisk::holding(Images::default());
    let files = disk.files().map(|file| Box::new(Noting { file, longest: longest.clone() }) as _);
    let journal = Journal::create(files, Sizes { extent: 1 << 16, ..SIZES }, None).unwrap();
    append(&journal, vec![entry(1, 0, 1)]);
    drop(journal);
    assert_eq!(longest.load(Ordering::Relaxed), 4096, "larger pieces make later writes slow");
    assert!(synced(&disk).iter().any(|image| image.len() == 1 << 16), "no room was made");
}
