//! The settings of the kernel's IPv4 stack that a bridge needs, in the caller's network namespace.
//!
//! Only `ip_forward` is not the bridge's own; what it was before is the caller's to remember.

use std::io;
use std::path::{Path, PathBuf};

use crate::names::BridgeName;

const IPV4: &str = "/proc/sys/net/ipv4";

/// Whether packets are forwarded now.
pub(crate) fn is_on() -> io::Result<bool> {
    Ok(std::fs::read_to_string(Path::new(IPV4).join("ip_forward"))?.trim() == "1")
}

/// Turns forwarding on or off.
pub(crate) fn set(on: bool) -> io::Result<()> {
    if is_on()? == on {
        return Ok(());
    }
    std::fs::write(Path::new(IPV4).join("ip_forward"), if on { "1" } else { "0" })
}

/// Makes the bridge answer ARP for every job, so that packets between two (isolated) ports are
/// routed through the firewall; at once, because the default delay is up to 0.8 s. The bridge has no
/// IPv6 address that a job could reach.
pub(crate) fn set_up_bridge(bridge: &BridgeName) -> io::Result<()> {
    std::fs::write(format!("{IPV4}/conf/{bridge}/proxy_arp_pvlan"), "1")?;
    std::fs::write(format!("{IPV4}/conf/{bridge}/send_redirects"), "0")?;
    std::fs::write(format!("{IPV4}/neigh/{bridge}/proxy_delay"), "0")?;
    write_if_present(format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6").into(), "1")
}

/// Inside a job's namespace: programs without capabilities may bind low ports and ping; the one link
/// speaks IPv4 only.
pub(crate) fn set_up_job() -> io::Result<()> {
    std::fs::write(format!("{IPV4}/ping_group_range"), "0 2147483647")?;
    std::fs::write(format!("{IPV4}/ip_unprivileged_port_start"), "0")?;
    write_if_present("/proc/sys/net/ipv6/conf/eth0/disable_ipv6".into(), "1")
}

/// For settings of features that a kernel may have been built without.
fn write_if_present(path: PathBuf, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
