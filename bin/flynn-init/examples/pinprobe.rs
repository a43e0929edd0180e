//! A stand-in for a daemon that enters its pinned mount namespace: `pinprobe PIN TARGET VERB`.
#![expect(clippy::print_stdout, reason = "its output is what the tests read")]

use std::path::Path;

use host_container::enter_pinned_mount_namespace;
use rustix::mount::{MountFlags, mount};

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [pin, target, verb] = args.as_slice() else { std::process::exit(64) };
    let pin = Path::new(pin);
    let entered = enter_pinned_mount_namespace(pin)?;
    let marker = Path::new(target).join("here");
    println!("{entered:?} {}", marker.exists());
    match verb.as_str() {
        "mount" => {
            mount("probe", target.as_str(), "tmpfs", MountFlags::empty(), None)?;
            std::fs::write(marker, "")?;
        }
        "again" => println!("{:?}", enter_pinned_mount_namespace(pin)?),
        _ => {}
    }
    Ok(())
}
