//! The controller's API against a real PostgreSQL: the worked examples of the specification byte for
//! byte, streams, refusals, and what happens without a database.
#![expect(clippy::unwrap_used, reason = "tests may panic, their helpers too")]

mod bad_input;
mod build_tokens;
mod deploys;
mod examples;
mod fake_scheduler;
mod hosts;
mod outages;
mod routes;
mod streams;
mod support;
mod worker;
