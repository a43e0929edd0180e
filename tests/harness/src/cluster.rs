//! A cluster of hosts on one machine that stays until it is told to end: `script/cluster`.
//!
//! `up` starts a *keeper* inside a sandbox of its own; the keeper boots the hosts, bootstraps the platform
//! over them and then does what the other verbs ask for on a socket in the cluster's directory. `exec`
//! enters the host itself. When the keeper ends, for whatever reason, so does everything in the sandbox.

mod client;
mod keeper;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// A host of the cluster or all of them.
pub const ALL: &str = "all";

/// Which cluster, and what is done.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// The cluster's directory; each has one of its own.
    #[arg(long, env = "FLYNN_CLUSTER", default_value = "/var/tmp/flynn-cluster")]
    data_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

/// What is done with a cluster.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub enum Verb {
    /// Starts N hosts, host1 to hostN, with the platform on them
    Up {
        /// How many: 1, or at least 3
        hosts: u8,
        /// Only the hosts
        #[arg(long)]
        no_bootstrap: bool,
        /// Each host's disk
        #[arg(long, default_value = "8G")]
        disk: String,
        /// Where layers are kept between runs
        #[arg(long, env = "FLYNN_CACHE", default_value = "/var/cache/flynn")]
        cache: PathBuf,
        #[arg(long, env = "CLUSTER_DOMAIN", default_value = "flynn.localhost")]
        domain: String,
    },
    /// Ends the cluster and removes everything of it
    Down,
    /// Lists the hosts, their addresses and whether they are on
    List,
    /// A host's address
    Ip { host: String },
    /// Runs a command on a host, which must be on
    Exec {
        host: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Starts one more host, which joins the cluster
    Add { host: String },
    /// Ends all processes of a name, such as discoverd, flynn-host, scheduler, router, postgres
    Kill { host: String, process: String },
    /// Ends every process of a host, or of all, at once
    PowerCut { host: String },
    /// Starts a host again after a power cut, or all
    Start { host: String },
    /// Cuts hosts (HOST,HOST) off from the others and from the outside
    Partition {
        #[arg(value_delimiter = ',')]
        hosts: Vec<String>,
    },
    /// Joins all hosts again
    Heal,
    /// Stops processes of a name without their knowing
    Freeze { host: String, process: String },
    /// Lets them go on, or everything on the host: all
    Thaw { host: String, process: String },
    /// Sets a host's wall clock ahead by so many seconds, or back; 0 is right again
    Clock {
        host: String,
        #[arg(allow_negative_numbers = true)]
        seconds: i32,
    },
    /// Leaves no byte free on a host's disk
    FillDisk { host: String },
    /// Gives the room back
    FreeDisk { host: String },
    /// What runs inside of the sandbox; started by `up`
    #[command(hide = true)]
    Keep { up: String },
    /// Where `exec` finds a host; asked by it
    #[command(skip)]
    Where { host: String },
}

/// What the keeper answers: a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    text: Result<String, String>,
}

/// Where a host is, for `exec`.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    /// Its first process, as the sandbox counts.
    init: u32,
    /// The sandbox's state directory.
    state: PathBuf,
    /// The folder of the programs.
    bin: PathBuf,
    /// A home directory with the settings of `flynn`.
    home: PathBuf,
}

/// Does what is asked.
pub fn run(args: ClusterArgs) -> anyhow::Result<ExitCode> {
    let files = Files { dir: args.data_dir };
    match args.verb {
        Verb::Up { .. } => client::up(&files, &args.verb),
        Verb::Down => client::down(&files),
        Verb::Keep { up } => keeper::keep(&files, &serde_json::from_str(&up)?),
        Verb::Exec { host, command } => client::exec(&files, &host, &command),
        other @ (Verb::List
        | Verb::Ip { .. }
        | Verb::Add { .. }
        | Verb::Kill { .. }
        | Verb::PowerCut { .. }
        | Verb::Start { .. }
        | Verb::Partition { .. }
        | Verb::Heal
        | Verb::Freeze { .. }
        | Verb::Thaw { .. }
        | Verb::Clock { .. }
        | Verb::FillDisk { .. }
        | Verb::FreeDisk { .. }
        | Verb::Where { .. }) => client::tell(&files, &other),
    }
}

/// The files in a cluster's directory.
#[derive(Clone, Debug)]
struct Files {
    dir: PathBuf,
}

impl Files {
    /// The number of the process that started the sandbox.
    fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The keeper's socket.
    fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// There once the cluster is up.
    fn ready(&self) -> PathBuf {
        self.dir.join("ready")
    }

    /// What keeper and bootstrap said.
    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn of(&self) -> &Path {
        &self.dir
    }
}
