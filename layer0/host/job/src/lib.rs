//! What a host decides about jobs: life cycle, restart rule, resources, addresses, eviction. No IO, no clock, no
//! randomness: times and seeds are arguments.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod addresses;
mod admission;
mod eviction;
mod life;
mod limits;
mod restart;

pub use addresses::{Addresses, Block, Held, NoAddress};
pub use admission::{Ledger, Refused, Reservation, Shortage};
pub use eviction::{Ended, KEPT_PER_APP, evictions};
pub use life::{Change, Event, Life, Status};
pub use limits::{Limits, Stated, StatedResources, WireDefaults, shares};
pub use restart::{Decision, Outcome, RestartRule, Stay};
