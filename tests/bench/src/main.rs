//! `flynn-bench`: what the platform costs, beside a peer in the same run. Figures are for reading; no
//! run fails because something was slow.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod figures;
mod memory;
mod network;
mod placement;
mod proxies;
mod push;
mod registry;
mod router;
mod runc;
mod start;

use clap::Parser;

#[derive(Parser)]
#[command(name = "flynn-bench", about = "Measures the platform beside its peers")]
enum Bench {
    /// From the request for a job to its first instruction, beside `runc run`
    Start {
        /// How often each
        #[arg(long, default_value_t = 30)]
        rounds: usize,
    },
    /// Processor time per request of router, nginx and HAProxy
    Router {
        /// How often each
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of load
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// Memory of the idle platform, by process
    Memory,
    /// Throughput and round trip between jobs, on one host and across two, beside bare links
    Network {
        /// How often each
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each load
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// Registrations, reads and watches of three discoverds, beside three etcds
    Registry {
        /// How often each
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each load
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Only how late a single watcher sees a change
        #[arg(long)]
        only_watch: bool,
    },
    /// Jobs placed on thousands of simulated hosts, by one thread
    Placement {
        /// How often each
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// From `git push` to the first answer, split by step
    Push {
        /// How many pushes after the first
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Start { rounds } => start::measure(rounds),
        Bench::Router { rounds, seconds } => router::measure(rounds, seconds),
        Bench::Memory => memory::measure(),
        Bench::Network { rounds, seconds } => network::measure(rounds, seconds),
        Bench::Registry { rounds, seconds, only_watch } => {
            registry::measure(rounds, seconds, only_watch);
        }
        Bench::Placement { rounds } => placement::measure(rounds)?,
        Bench::Push { rounds } => push::measure(rounds),
    }
    Ok(())
}
