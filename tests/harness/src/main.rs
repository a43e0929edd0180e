//! `flynn-dev`: the developer's tool behind `script/*`. See the modules of the library.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::{checks, cluster, guest, hosts, images, sandbox, sweep};

#[derive(Debug, Parser)]
#[command(name = "flynn-dev", about = "What the scripts are too short for")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a command in mount, network and process namespaces of its own, with a way out to the
    /// package registries, and sweeps whatever it left
    Sandbox {
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
    /// Makes the layers of the system images (cached by content) and lists them
    Images {
        /// Where layers are kept between runs
        #[arg(long, env = "FLYNN_CACHE", default_value = "/var/cache/flynn")]
        cache: PathBuf,
        /// The directory with the built binaries
        #[arg(long)]
        bin: PathBuf,
        /// Only these images
        names: Vec<String>,
    },
    /// Makes only the Debian layers, which need no binaries
    BaseLayers {
        #[arg(long, env = "FLYNN_CACHE", default_value = "/var/cache/flynn")]
        cache: PathBuf,
        /// Only these images
        names: Vec<String>,
    },
    /// Boots a Debian 12 guest and runs programs in it
    Guest {
        #[arg(long, env = "FLYNN_CACHE", default_value = "/var/cache/flynn")]
        cache: PathBuf,
        /// Directory of built programs
        #[arg(long, default_value = ".")]
        bin: PathBuf,
        /// What the programs expect beside them, relative to the directory of built programs
        #[arg(long)]
        beside: Vec<PathBuf>,
        /// Static test programs; none: only make the guest's disk
        programs: Vec<PathBuf>,
    },
    /// A cluster of several hosts that stays until it is ended
    Cluster(cluster::ClusterArgs),
    /// Holds the repository against its own rules: purity, direction of dependencies, file headers
    Check {
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Fails when something of a test run is still on this machine
    Leftovers,
    /// The first process of a test host
    #[command(hide = true)]
    HostInit { id: String, dir: PathBuf },
    /// Removes what killed test runs left: cgroups, loop devices, state directories
    Sweep,
}

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Command::Sandbox { command } => sandbox::run(&command),
        Command::Images { cache, bin, names } => {
            images::build(&cache, &bin, &names).map(|()| ExitCode::SUCCESS)
        }
        Command::BaseLayers { cache, names } => {
            images::build_bases(&cache, &names).map(|()| ExitCode::SUCCESS)
        }
        Command::Guest { cache, programs, .. } if programs.is_empty() => {
            guest::disk(&cache).map(|_| ExitCode::SUCCESS)
        }
        Command::Guest { cache, bin, beside, programs } => {
            guest::run(&cache, &guest::Load { bin, beside, programs })
        }
        Command::Cluster(args) => cluster::run(args),
        Command::Check { root } => checks::run(&root),
        Command::Leftovers => sweep::leftovers(),
        Command::HostInit { id, dir } => hosts::host_init(&id, &dir),
        Command::Sweep => sweep::everything().map(|()| ExitCode::SUCCESS),
    }
}
