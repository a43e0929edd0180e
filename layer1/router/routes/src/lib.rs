//! Route matching and the choice of a backend, pure: a [`Table`] answers which route a host and path
//! belong to, [`diff`] tells what changed, [`Choice`] picks a backend for one request, [`InFlight`]
//! counts, and [`Fleet`] follows a service's backends from up through draining to gone.
//!
//! No sockets, no TLS, no clock and no randomness: seeds are arguments, and whatever a route carries
//! besides its match is the table's type parameter.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod choice;
mod diff;
mod fleet;
mod in_flight;
mod rule;
mod table;

pub use choice::{Choice, MAX_ATTEMPTS, shuffled};
pub use diff::{Diff, diff};
pub use fleet::{Backend, Fleet, Step};
pub use in_flight::InFlight;
pub use rule::{DEFAULT_PORT, Domain, Matcher, PathPrefix, Problem, Reason, Rule};
pub use table::Table;
