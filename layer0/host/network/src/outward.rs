//! The address other machines see this one under.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The address of the link that the default route leaves by. No packet is sent: connecting a UDP
/// socket only asks the routing table.
pub fn outward_address() -> std::io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address reserved for documentation: whatever it is, the default route leads to it.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(std::io::ErrorKind::AddrNotAvailable.into()),
    }
}
