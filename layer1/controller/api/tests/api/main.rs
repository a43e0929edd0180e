//! The wire forms of the specification, read and written again; and jobs made from releases.

#![expect(clippy::unwrap_used, reason = "tests may panic, their helpers too")]

mod jobs;
mod wire;
