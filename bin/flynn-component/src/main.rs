//! Controller, scheduler, worker and the other services that cost nothing to restart.

fn main() {}
