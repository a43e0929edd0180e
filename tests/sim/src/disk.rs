//! A file that is written whole and replaced atomically, as all of ours are.

use crate::Random;

/// What a machine finds again. A write that was not synced may be lost, or torn and then not accepted by
/// whoever reads it; both give what was synced last. Or it may be there all the same.
#[derive(Clone, Debug, Default)]
pub struct Disk<T> {
    synced: T,
    written: Option<T>,
}

impl<T: Clone> Disk<T> {
    /// Writes; a crash may undo it.
    pub fn write(&mut self, value: T) {
        self.written = Some(value);
    }

    /// From here on no crash undoes what was written.
    pub fn sync(&mut self) {
        if let Some(written) = self.written.take() {
            self.synced = written;
        }
    }

    /// What a running process reads.
    pub fn read(&self) -> &T {
        self.written.as_ref().unwrap_or(&self.synced)
    }

    /// The machine loses its power.
    pub fn crash(&mut self, random: &mut Random) {
        if random.chance(50) {
            self.sync();
        }
        self.written = None;
    }
}
