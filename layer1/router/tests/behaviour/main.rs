//! The router in process, with fake sources and backends on free ports of loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

mod api;
mod balancing;
mod forwarding;
mod hostile;
mod restart;
mod sources;
mod tcp_routes;
mod tls;
mod upgrades;
