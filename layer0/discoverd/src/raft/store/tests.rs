//! Stores of the time before the journal.

use openraft::{CommittedLeaderId, EntryPayload};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::super::fragile::{FragileDisk, Images};
use super::*;

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(3, 7), index)
}

/// The file of a store whose log began at 5 and had 20 entries.
fn old() -> Vec<u8> {
    let disk = FragileDisk::holding([Vec::new()]);
    let [file] = disk.files();
    let db = Database::builder().create_with_backend(file).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut log = write.open_table(OLD_LOG).unwrap();
        for index in 5..25 {
            let entry = Entry { log_id: log_id(index), payload: EntryPayload::Blank };
            log.insert(index, encode("entry", &entry).unwrap().as_slice()).unwrap();
        }
        let mut facts = write.open_table(FACTS).unwrap();
        let vote = Vote::new_committed(3, 8);
        for (key, text) in [
            (NODE, encode(NODE, &7_u64).unwrap()),
            (VOTE, encode(VOTE, &vote).unwrap()),
            (OLD_PURGED, encode(OLD_PURGED, &log_id(4)).unwrap()),
            (OLD_COMMITTED, encode(OLD_COMMITTED, &Some(log_id(20))).unwrap()),
        ] {
            facts.insert(key, text.as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
    drop(db);
    let [image] = disk.images_after_the_cut(&mut StdRng::seed_from_u64(0));
    image
}

fn is_whole(store: &Store) {
    let journal = store.journal();
    let entries = journal.entries(&..).unwrap();
    assert!(entries.iter().map(|entry| entry.log_id).eq((5..25).map(log_id)));
    assert_eq!(journal.purged(), Some(log_id(4)));
    assert_eq!(journal.committed(), Some(log_id(20)));
    assert_eq!(store.vote().unwrap(), Some(Vote::new_committed(3, 8)));
    assert_eq!(store.node_id(9).unwrap(), 7);
}

#[test]
fn an_older_store_is_taken_over_whole() {
    let garbage = vec![7; 5000];
    let disk = FragileDisk::holding([old(), garbage, Vec::new()]);
    for _ in 0..3 {
        is_whole(&Store::with_backends(disk.files()).unwrap());
    }
    // An older version would open this table, and would find an empty log where it had voted.
    let [facts, ..] = disk.files();
    let db = Database::builder().create_with_backend(facts).unwrap();
    db.begin_write().unwrap().open_table(OLD_LOG).unwrap_err();
}

/// Wherever the power goes while a store is taken over: the next start has all of it.
#[test]
fn a_power_cut_while_a_store_is_taken_over_loses_nothing() {
    let old = old();
    let mut cuts = 0;
    for operations in 1.. {
        let mut random = StdRng::seed_from_u64(operations.into());
        let disk = FragileDisk::holding([old.clone(), Vec::new(), Vec::new()]);
        disk.cut_after(operations);
        // What it says does not matter; only what it leaves behind does.
        drop(Store::with_backends(disk.files()));
        let uncut = !disk.is_cut();
        let images: Images<3> = disk.images_after_the_cut(&mut random);
        is_whole(&Store::with_backends(FragileDisk::holding(images).files()).unwrap());
        if uncut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 10, "it does more than {cuts} operations");
}

#[test]
fn a_journal_that_is_gone_is_no_empty_one() {
    let disk = FragileDisk::holding([old(), Vec::new(), Vec::new()]);
    drop(Store::with_backends(disk.files()).unwrap());
    let [facts, ..] = disk.images_after_the_cut(&mut StdRng::seed_from_u64(0));
    let disk = FragileDisk::holding([facts, Vec::new(), Vec::new()]);
    let error = Store::with_backends(disk.files()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}
