//! Routes, ARP and forwarding entries: what the kernel has becomes what it should have.
//!
//! Nothing that is right is touched, what is wrong is replaced in one step, so no packet of an open
//! connection meets a gap. Only what is ours is looked at: routes by their protocol number, the other
//! two by the device.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt as _;
use netplan::{Block, Forwarding, Mac, Neighbour, Route, Wanted};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol,
};
use rtnetlink::{Handle, NeighbourAddRequest, RouteMessageBuilder};
use rustix::io::Errno;

use crate::netlink::{KernelError, is_errno, request, with_netlink};
use crate::tunnel::{self, Tunnel};

/// Who made a route, in `ip route`'s words `proto 241`: a number that nobody has claimed.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(241);

/// All that the kernel should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The number of the virtual network; without a tunnel, that of the device to remove.
    pub(crate) vni: u32,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) wanted: Wanted,
}

/// Makes it so, from whatever there is. Gives the routes whose next hop is on no link of this host.
pub(crate) async fn apply(target: &Target) -> Result<Vec<Route>, KernelError> {
    with_netlink(async |handle| {
        let device = match &target.tunnel {
            Some(tunnel) => {
                let index = tunnel::ensure(&handle, tunnel).await?;
                neighbours(&handle, index, target).await?;
                forwarding(&handle, index, target).await?;
                Some(index)
            }
            None => {
                tunnel::remove(&handle, target.vni).await?;
                None
            }
        };
        routes(&handle, device, target).await
    })
    .await
}

async fn neighbours(handle: &Handle, device: u32, target: &Target) -> Result<(), KernelError> {
    let wanted = &target.wanted.neighbours;
    let all = entries_of(handle, AddressFamily::Inet, device).await?;
    let permanent = all.iter().filter(|entry| entry.header.state == NeighbourState::Permanent);
    let present: Vec<_> = permanent.filter_map(neighbour).collect();
    let add = |entry: &Neighbour| {
        handle.neighbours().add(device, entry.ip.into()).link_layer_address(&entry.mac.0)
    };
    for entry in wanted.iter().filter(|entry| !present.contains(entry)) {
        request("add ARP entry", entry.ip, add(entry).replace().execute()).await?;
    }
    for entry in present.iter().filter(|entry| wanted.iter().all(|other| other.ip != entry.ip)) {
        remove_entry(handle, "remove ARP entry", entry.ip, add(entry)).await?;
    }
    Ok(())
}

async fn forwarding(handle: &Handle, device: u32, target: &Target) -> Result<(), KernelError> {
    let wanted = &target.wanted.forwarding;
    let all = entries_of(handle, AddressFamily::Bridge, device).await?;
    let present: Vec<_> = all.iter().filter_map(forwarding_entry).collect();
    let add = |entry: &Forwarding| {
        let entry_for = handle.neighbours().add_bridge(device, &entry.mac.0);
        // Without this flag the request is for a bridge that the device would be a port of.
        entry_for.flags(NeighbourFlags::Own).destination(entry.host.into())
    };
    for entry in wanted.iter().filter(|entry| !present.contains(entry)) {
        request("add forwarding entry", entry.host, add(entry).replace().execute()).await?;
    }
    for entry in present.iter().filter(|entry| wanted.iter().all(|other| other.mac != entry.mac)) {
        remove_entry(handle, "remove forwarding entry", entry.host, add(entry)).await?;
    }
    Ok(())
}

/// Removes what `add` would add; not being there is success.
async fn remove_entry(
    handle: &Handle,
    action: &'static str,
    object: Ipv4Addr,
    mut add: NeighbourAddRequest,
) -> Result<(), KernelError> {
    let message = add.message_mut().clone();
    match handle.neighbours().del(message).execute().await {
        Err(error) if is_errno(&error, Errno::NOENT) => Ok(()),
        other => request(action, object, std::future::ready(other)).await,
    }
}

async fn entries_of(
    handle: &Handle,
    family: AddressFamily,
    device: u32,
) -> Result<Vec<NeighbourMessage>, KernelError> {
    let listing = handle.neighbours().get().set_address_family(family).execute();
    let mut all: Vec<NeighbourMessage> =
        request("list", "entries of the tunnel device", listing.try_collect()).await?;
    all.retain(|entry| entry.header.ifindex == device);
    Ok(all)
}

fn neighbour(entry: &NeighbourMessage) -> Option<Neighbour> {
    Some(Neighbour { ip: destination(entry)?, mac: mac(entry)? })
}

fn forwarding_entry(entry: &NeighbourMessage) -> Option<Forwarding> {
    Some(Forwarding { mac: mac(entry)?, host: destination(entry)? })
}

fn destination(entry: &NeighbourMessage) -> Option<Ipv4Addr> {
    entry.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::Destination(address) = attribute else { return None };
        if let NeighbourAddress::Inet(ip) = address {
            return Some(*ip);
        }
        // Of forwarding entries the library does not know that these are addresses.
        let NeighbourAddress::Other(bytes) = address else { return None };
        <[u8; 4]>::try_from(&bytes[..]).ok().map(Ipv4Addr::from)
    })
}

fn mac(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| {
        let NeighbourAttribute::LinkLayerAddress(bytes) = attribute else { return None };
        bytes[..].try_into().ok().map(Mac)
    })
}

/// Gives the routes that the kernel refuses because their next hop is on no link.
async fn routes(
    handle: &Handle,
    device: Option<u32>,
    target: &Target,
) -> Result<Vec<Route>, KernelError> {
    let wanted = &target.wanted.routes;
    let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let listing = handle.route().get(query).execute();
    let mut ours: Vec<RouteMessage> = request("list", "routes", listing.try_collect()).await?;
    ours.retain(|message| message.header.protocol == PROTOCOL);
    let present: Vec<_> = ours.iter().map(|message| route(message, device)).collect();
    let mut unreachable = Vec::new();
    for missing in wanted.iter().filter(|wanted| !present.contains(&Some(**wanted))) {
        let add = handle.route().add(message(missing, device)).replace().execute().await;
        match add {
            Err(error) if is_off_link(&error) => unreachable.push(*missing),
            other => request("add route to", missing.to, std::future::ready(other)).await?,
        }
    }
    let stale = ours.into_iter().zip(&present);
    let stale = stale.filter(|(_, route)| route.is_none_or(|route| !wanted.contains(&route)));
    for (stale, _) in stale {
        match handle.route().del(stale).execute().await {
            // It was replaced just now.
            Err(error) if is_errno(&error, Errno::SRCH) => {}
            other => request("remove", "an old route", std::future::ready(other)).await?,
        }
    }
    Ok(unreachable)
}

fn message(route: &Route, device: Option<u32>) -> RouteMessage {
    let message = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.to.first(), route.to.prefix_len())
        .gateway(route.via)
        .protocol(PROTOCOL);
    let message = if route.onlink { message.onlink() } else { message };
    match device {
        Some(index) => message.output_interface(index).build(),
        None => message.build(),
    }
}

/// A route of the kernel, if it is one that we could want.
fn route(message: &RouteMessage, device: Option<u32>) -> Option<Route> {
    let (mut to, mut via, mut link) = (None, None, None);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute {
            to = Some(*ip);
        } else if let RouteAttribute::Gateway(RouteAddress::Inet(ip)) = attribute {
            via = Some(*ip);
        } else if let RouteAttribute::Oif(index) = attribute {
            link = Some(*index);
        }
    }
    if device.is_some() && device != link {
        return None;
    }
    let to = Block::around(to?, message.header.destination_prefix_length).ok()?;
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    Some(Route { to, via: via?, onlink })
}

fn is_off_link(error: &rtnetlink::Error) -> bool {
    is_errno(error, Errno::NETUNREACH) || is_errno(error, Errno::HOSTUNREACH)
}
