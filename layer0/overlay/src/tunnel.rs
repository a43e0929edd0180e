//! The VXLAN device (RFC 7348): made when it is missing, kept when it fits, made anew when it does not.
//!
//! It learns nothing by itself and asks nobody: all it knows of other hosts are the entries of
//! [`entries`](crate::entries). It hangs on no other link, so that it outlives a cable that is changed.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use netplan::Mac;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan};
use rustix::io::Errno;

use crate::netlink::{KernelError, is_errno, request};

/// The outer Ethernet, IPv4, UDP and VXLAN headers that a packet gets (RFC 7348 §5).
pub(crate) const OVERHEAD: u32 = 50;

/// What the device should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// The number of the virtual network.
    pub(crate) vni: u32,
    /// UDP port, at both ends.
    pub(crate) port: u16,
    /// This host's external address.
    pub(crate) local: Ipv4Addr,
    /// The largest packet inside.
    pub(crate) mtu: u32,
    /// Its only address, and how many bits of it name the network.
    pub(crate) address: (Ipv4Addr, u8),
}

impl Tunnel {
    /// Its hardware address; the others know it from this host's lease.
    fn mac(&self) -> Mac {
        Mac::of_tunnel(self.local)
    }
}

/// The device's name.
pub(crate) fn device_name(vni: u32) -> String {
    format!("flannel.{vni}")
}

/// Makes the device what it should be; gives its index.
pub(crate) async fn ensure(handle: &Handle, tunnel: &Tunnel) -> Result<u32, KernelError> {
    let name = device_name(tunnel.vni);
    let mut found = find(handle, &name).await?;
    if let Some(link) = found.take_if(|link| !fits(link, tunnel)) {
        remove_link(handle, &name, &link).await?;
    }
    let link = match found {
        Some(link) => link,
        None => make(handle, &name, tunnel).await?,
    };
    let index = link.header.index;
    set_only_address(handle, &name, index, tunnel.address).await?;
    if mtu_of(&link) != Some(tunnel.mtu) || !link.header.flags.contains(LinkFlags::Up) {
        let up = LinkUnspec::new_with_index(index).mtu(tunnel.mtu).up().build();
        request("bring up", &name, handle.link().set(up).execute()).await?;
    }
    Ok(index)
}

/// Removes the device, if it is there and ours.
pub(crate) async fn remove(handle: &Handle, vni: u32) -> Result<(), KernelError> {
    let name = device_name(vni);
    match find(handle, &name).await? {
        Some(link) if is_ours(&link) => remove_link(handle, &name, &link).await,
        Some(_) | None => Ok(()),
    }
}

async fn make(handle: &Handle, name: &str, tunnel: &Tunnel) -> Result<LinkMessage, KernelError> {
    let device = LinkVxlan::new(name, tunnel.vni)
        .port(tunnel.port)
        .local(tunnel.local)
        .learning(false)
        .address(tunnel.mac().0.to_vec())
        .mtu(tunnel.mtu)
        .build();
    request("make", name, handle.link().add(device).execute()).await?;
    tracing::info!(device = name, local = %tunnel.local, "tunnel device made");
    let gone = || KernelError::Foreign(name.to_owned());
    find(handle, name).await?.ok_or_else(gone)
}

async fn remove_link(handle: &Handle, name: &str, link: &LinkMessage) -> Result<(), KernelError> {
    if !is_ours(link) {
        return Err(KernelError::Foreign(name.to_owned()));
    }
    match handle.link().del(link.header.index).execute().await {
        Err(error) if is_errno(&error, Errno::NODEV) => Ok(()),
        other => request("remove", name, std::future::ready(other)).await,
    }
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, KernelError> {
    let query = handle.link().get().match_name(name.to_owned()).execute();
    let mut query = std::pin::pin!(query);
    match query.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if is_errno(&error, Errno::NODEV) => Ok(None),
        Err(error) => request("look up", name, std::future::ready(Err(error))).await,
    }
}

/// Whether what cannot be changed about a device is as it should be.
fn fits(link: &LinkMessage, tunnel: &Tunnel) -> bool {
    let wanted = [
        InfoVxlan::Id(tunnel.vni),
        InfoVxlan::Port(tunnel.port),
        InfoVxlan::Local(tunnel.local),
        InfoVxlan::Learning(false),
    ];
    let has = vxlan_of(link).is_some_and(|infos| wanted.iter().all(|info| infos.contains(info)));
    has && mac_of(link) == Some(&tunnel.mac().0[..])
}

/// Whether a device was made by an overlay of ours, under whatever address this host had then.
fn is_ours(link: &LinkMessage) -> bool {
    let prefix = &Mac::of_tunnel(Ipv4Addr::UNSPECIFIED).0[..2];
    vxlan_of(link).is_some() && mac_of(link).is_some_and(|mac| mac.starts_with(prefix))
}

fn vxlan_of(link: &LinkMessage) -> Option<&Vec<InfoVxlan>> {
    let infos = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None }
    })?;
    let is_vxlan = infos.contains(&LinkInfo::Kind(InfoKind::Vxlan));
    let data = infos.iter().find_map(|info| {
        if let LinkInfo::Data(InfoData::Vxlan(data)) = info { Some(data) } else { None }
    });
    data.filter(|_| is_vxlan)
}

fn mac_of(link: &LinkMessage) -> Option<&[u8]> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(mac) = attribute { Some(&mac[..]) } else { None }
    })
}

/// The largest packet of a link.
pub(crate) fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None }
    })
}

async fn set_only_address(
    handle: &Handle,
    name: &str,
    index: u32,
    (ip, prefix_len): (Ipv4Addr, u8),
) -> Result<(), KernelError> {
    let listing = handle.address().get().set_link_index_filter(index).execute();
    let all: Vec<AddressMessage> =
        request("list addresses of", name, listing.try_collect()).await?;
    let wanted = AddressAttribute::Local(IpAddr::V4(ip));
    let mut present = false;
    for address in all.into_iter().filter(|a| a.header.family == AddressFamily::Inet) {
        if address.header.prefix_len == prefix_len && address.attributes.contains(&wanted) {
            present = true;
        } else {
            let removal = handle.address().del(address).execute();
            request("remove an old address from", name, removal).await?;
        }
    }
    if present {
        return Ok(());
    }
    let addition = handle.address().add(index, IpAddr::V4(ip), prefix_len).execute();
    request("add address to", name, addition).await
}
