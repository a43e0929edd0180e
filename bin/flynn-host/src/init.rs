//! `flynn-host init`: writes the daemon's configuration file.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize as _;
use serde_json::{Map, Value};

use crate::daemon::CONFIG_FILE;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Addresses of the cluster's hosts: all first ones on each of them, or some members of the cluster
    /// this host shall join.
    #[arg(long, value_delimiter = ',')]
    peer_ips: Vec<Ipv4Addr>,
    /// Gone: name the hosts by --peer-ips.
    #[arg(long, hide = true)]
    init_discovery: bool,
    /// Gone: name the hosts by --peer-ips.
    #[arg(long, hide = true, value_name = "URL")]
    discovery: Option<String>,
    /// Address other hosts reach this one at.
    #[arg(long)]
    external_ip: Option<Ipv4Addr>,
    /// The file to write.
    #[arg(long, default_value = CONFIG_FILE)]
    file: PathBuf,
}

/// Clusters of the original met at a public server that no longer exists. Ours have none: who belongs to a
/// cluster is said by its operator (docs/adr/0007-members.md), not by whoever runs a server or knows a URL.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no discovery server: name the hosts instead, the same list on every one of them: \
     --peer-ips ADDRESS,ADDRESS,ADDRESS (docs/operating/hosts.md)"
)]
pub(crate) struct NoDiscoveryServer;

pub(crate) fn run(args: &InitArgs) -> anyhow::Result<()> {
    if args.init_discovery || args.discovery.is_some() {
        return Err(NoDiscoveryServer.into());
    }
    write(&args.file, &text(args)?).with_context(|| format!("cannot write {}", args.file.display()))
}

/// The file's contents, indented with tabs.
fn text(args: &InitArgs) -> anyhow::Result<Vec<u8>> {
    let mut words = Vec::new();
    if let Some(ip) = args.external_ip {
        words.extend(["--external-ip".to_owned(), ip.to_string()]);
    }
    if !args.peer_ips.is_empty() {
        let ips: Vec<_> = args.peer_ips.iter().map(ToString::to_string).collect();
        words.extend(["--peer-ips".to_owned(), ips.join(",")]);
    }
    let mut file = Map::new();
    if !words.is_empty() {
        file.insert("args".to_owned(), words.into());
    }
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut out = serde_json::Serializer::with_formatter(&mut text, form);
    Value::Object(file).serialize(&mut out)?;
    text.push(b'\n');
    Ok(text)
}

/// Replaces the file at once: a daemon that starts meanwhile reads the old one or the new one.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, text)?;
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        args: InitArgs,
    }

    #[test]
    fn a_discovery_server_is_refused_with_what_to_do_instead() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("host.json");
        for flags in [&["--init-discovery"][..], &["--discovery", "https://example.com/clusters/1"]]
        {
            let file = ["--file", file.to_str().unwrap()];
            let args = ["init"].iter().chain(flags).chain(&file);
            let refused = run(&Whole::parse_from(args).args).unwrap_err().to_string();
            assert!(refused.contains("--peer-ips ADDRESS"), "{refused}");
        }
        assert!(!file.exists());
    }

    fn written(flags: &[&str]) -> String {
        let flags = ["init"].iter().chain(flags);
        String::from_utf8(text(&Whole::parse_from(flags).args).unwrap()).unwrap()
    }

    #[test]
    fn the_file_holds_the_daemons_arguments() {
        assert_eq!(written(&[]), "{}\n");
        let flags = ["--peer-ips", "192.0.2.1,192.0.2.2", "--external-ip", "192.0.2.1"];
        assert_eq!(
            written(&flags),
            "{\n\t\"args\": [\n\t\t\"--external-ip\",\n\t\t\"192.0.2.1\",\n\t\t\"--peer-ips\",\n\t\t\
             \"192.0.2.1,192.0.2.2\"\n\t]\n}\n"
        );
    }
}
