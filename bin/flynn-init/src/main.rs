//! Supervisor and first process of every job.

fn main() {}
