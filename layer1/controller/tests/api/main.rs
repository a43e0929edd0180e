//! The controller's API against a real PostgreSQL: the worked examples of the specification byte for
//! byte, streams, refusals, and what happens without a database.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod deploys;
mod examples;
mod hosts;
mod outages;
mod routes;
mod streams;
mod support;
