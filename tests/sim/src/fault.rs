//! What goes wrong with machines and links, besides single messages.

use std::time::Duration;

use crate::{Network, Random};

/// A fault; each is undone after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Messages these ways are lost; answers may get through.
    Cut(Vec<(usize, usize)>),
    /// Power is lost, and comes back.
    Crash(usize),
    /// All processes of a machine stand still, and go on.
    Freeze(usize),
    /// The same, and its monotonic clock stands still too, as that of a suspended virtual machine.
    Sleep(usize),
    /// A wall clock is set wrong, and right again.
    Jump {
        /// Whose.
        machine: usize,
        /// By how much ahead.
        ahead: Duration,
        /// By how much back.
        behind: Duration,
    },
}

impl Fault {
    /// Begins or ends what it does to the network.
    pub fn apply(&self, network: &mut Network, begins: bool) {
        let Self::Cut(ways) = self else { return };
        for (from, to) in ways {
            if begins {
                network.cut(*from, *to);
            } else {
                network.mend(*from, *to);
            }
        }
    }
}

/// Draws a fault and how long it lasts. The first nodes are the `machines` that crash; cuts are between
/// all `nodes`.
pub fn draw_fault(random: &mut Random, machines: usize, nodes: usize) -> (Fault, Duration) {
    let brief = random.chance(30);
    let lasts = if brief { random.millis(100, 3000) } else { random.millis(3000, 45_000) };
    let machine = random.below(machines);
    let others: Vec<usize> = (0..nodes).filter(|node| *node != machine).collect();
    // What stands still briefly is what nobody notices.
    let kind = if brief && random.chance(40) { 2 } else { random.below(9) };
    let fault = match kind {
        0 | 1 => Fault::Crash(machine),
        2 => Fault::Freeze(machine),
        3 => jump(random, machine),
        4 => Fault::Cut(others.iter().map(|other| (machine, *other)).collect()),
        5 => Fault::Cut(others.iter().map(|other| (*other, machine)).collect()),
        6 => Fault::Sleep(machine),
        _ => Fault::Cut(split(random, nodes)),
    };
    (fault, lasts)
}

/// An hour ahead or back.
fn jump(random: &mut Random, machine: usize) -> Fault {
    let hour = Duration::from_secs(3600);
    let ahead = if random.chance(50) { hour } else { Duration::ZERO };
    Fault::Jump { machine, ahead, behind: hour - ahead }
}

/// Two sides that do not reach each other.
fn split(random: &mut Random, nodes: usize) -> Vec<(usize, usize)> {
    let (one, other): (Vec<_>, Vec<_>) = (0..nodes).partition(|_| random.chance(40));
    let ways = one.iter().flat_map(|a| other.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
    ways.collect()
}
