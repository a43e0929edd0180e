//! A disk in memory that loses power: writes since the last sync of their file survive or not, whole or
//! in part, in any order. Used by tests of the journal too.

use std::io;
use std::sync::{Arc, Mutex};

use rand::Rng as _;
use rand::rngs::StdRng;
use redb::StorageBackend;

/// The unit a disk writes whole.
const SECTOR: usize = 512;

/// What some files hold.
pub(crate) type Images<const N: usize> = [Vec<u8>; N];

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct FragileDisk<const N: usize> {
    inner: Arc<Mutex<Fragile<N>>>,
}

#[derive(Debug)]
struct Fragile<const N: usize> {
    files: [Content; N],
    /// Operations left until the power goes.
    left: Option<u32>,
}

#[derive(Debug)]
struct Content {
    /// What a read sees.
    seen: Vec<u8>,
    /// What surely survives.
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// One of its files.
#[derive(Debug)]
pub(crate) struct FragileFile<const N: usize> {
    disk: FragileDisk<N>,
    number: usize,
}

impl<const N: usize> FragileDisk<N> {
    pub(crate) fn holding(images: Images<N>) -> Self {
        let file =
            |image: Vec<u8>| Content { seen: image.clone(), synced: image, unsynced: Vec::new() };
        let inner = Fragile { files: images.map(file), left: None };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub(crate) fn files(&self) -> [FragileFile<N>; N] {
        std::array::from_fn(|number| FragileFile { disk: self.clone(), number })
    }

    pub(crate) fn cut_after(&self, operations: u32) {
        self.inner.lock().unwrap().left = Some(operations);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.inner.lock().unwrap().left == Some(0)
    }

    /// What is on the disk when the power comes back.
    pub(crate) fn images_after_the_cut(&self, random: &mut StdRng) -> Images<N> {
        let inner = self.inner.lock().unwrap();
        std::array::from_fn(|number| inner.files[number].after_the_cut(random))
    }
}

impl Content {
    fn after_the_cut(&self, random: &mut StdRng) -> Vec<u8> {
        let mut image = self.synced.clone();
        for operation in &self.unsynced {
            match operation {
                Unsynced::Length(length) if random.random() => image.resize(*length, 0),
                Unsynced::Write(at, data) if random.random() => {
                    let whole: bool = random.random();
                    let sectors = data.len().div_ceil(SECTOR);
                    let kept = if whole { sectors } else { random.random_range(0..=sectors) };
                    put(&mut image, *at, &data[..data.len().min(kept * SECTOR)]);
                }
                Unsynced::Length(_) | Unsynced::Write(..) => {}
            }
        }
        image
    }
}

impl<const N: usize> FragileFile<N> {
    /// Runs an operation while there is power.
    fn powered<T>(&self, work: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut inner = self.disk.inner.lock().unwrap();
        if let Some(left) = &mut inner.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(io::Error::other("no power"));
            }
        }
        Ok(work(&mut inner.files[self.number]))
    }
}

fn put(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl<const N: usize> StorageBackend for FragileFile<N> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.lock().unwrap().files[self.number].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner.lock().unwrap();
        let (seen, at) = (&inner.files[self.number].seen, position(offset));
        let found = seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.powered(|file| {
            file.seen.resize(position(len), 0);
            file.unsynced.push(Unsynced::Length(position(len)));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.powered(|file| {
            file.synced.clone_from(&file.seen);
            file.unsynced.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.powered(|file| {
            put(&mut file.seen, position(offset), data);
            file.unsynced.push(Unsynced::Write(position(offset), data.to_vec()));
        })
    }
}
