//! Links, addresses and routes over rtnetlink, in the network namespace of the calling thread.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kit_bpf::Program;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use rustix::io::Errno;

use crate::config::Config;
use crate::names::VethPrefix;
use crate::subnet::Subnet;

/// The kernel answers at once; this only bounds a wait for an answer that was lost.
const TIME_OUT: Duration = Duration::from_secs(20);

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("cannot talk to the kernel's network configuration")]
    Socket(#[source] std::io::Error),
    /// A request was refused.
    #[error("cannot {action} {object}")]
    Request {
        /// What was to be done.
        action: &'static str,
        /// With what.
        object: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// The bridge's name belongs to something else.
    #[error("link {0} exists and is no bridge: choose another bridge name")]
    NotABridge(String),
    /// The link was there and is not any more.
    #[error("link {0} has disappeared")]
    Gone(String),
    /// No answer.
    #[error("the kernel did not answer within {} s", TIME_OUT.as_secs())]
    TimedOut,
}

/// Opens a socket, runs `work` with it and closes it: no task of ours outlives the call.
pub(crate) async fn with_netlink<F, T>(work: impl FnOnce(Handle) -> F) -> Result<T, LinkError>
where
    F: Future<Output = Result<T, LinkError>>,
{
    let (connection, handle, _messages) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
    let work = tokio::time::timeout(TIME_OUT, work(handle));
    tokio::select! {
        result = work => result.map_err(|_| LinkError::TimedOut)?,
        () = connection => Err(LinkError::Socket(std::io::ErrorKind::ConnectionAborted.into())),
    }
}

/// The name of the host's end of a job's pair; follows from the address, so it is unique.
pub(crate) fn veth_name(prefix: &VethPrefix, ip: Ipv4Addr) -> String {
    format!("{prefix}{:08x}", u32::from(ip))
}

/// Whether `name` is one that [`veth_name`] makes.
pub(crate) fn is_veth_name(prefix: &VethPrefix, name: &str) -> bool {
    let rest = name.strip_prefix(prefix.as_str());
    rest.is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A job's hardware address. It follows from the IP address, so nobody's cache is ever wrong.
pub(crate) fn job_mac(ip: Ipv4Addr) -> String {
    mac_text(&mac(0, ip))
}

/// Locally administered and high, so that a bridge would never take a job's address for its own.
fn mac(role: u8, ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0xfe, role, a, b, c, d]
}

fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Makes the bridge what it should be: there, up, with one address and the right packet size.
pub(crate) async fn ensure_bridge(
    handle: &Handle,
    config: &Config,
    subnet: Subnet,
    mtu: u32,
) -> Result<(), LinkError> {
    let name = config.bridge.as_str();
    if find(handle, name).await?.is_none() {
        let address = mac(1, subnet.bridge_ip()).to_vec();
        let bridge = LinkBridge::new(name).address(address).build();
        request("create bridge", name, handle.link().add(bridge).execute()).await?;
    }
    let bridge = find(handle, name).await?.ok_or_else(|| LinkError::Gone(name.to_owned()))?;
    if !is_kind(&bridge, InfoKind::Bridge) {
        return Err(LinkError::NotABridge(name.to_owned()));
    }
    let index = bridge.header.index;
    set_only_address(handle, name, index, subnet).await?;
    let up = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
    request("bring up bridge", name, handle.link().set(up).execute()).await
}

/// Whether there is a link of this name.
pub(crate) async fn exists(handle: &Handle, name: &str) -> Result<bool, LinkError> {
    Ok(find(handle, name).await?.is_some())
}

/// Deletes a link; not being there is success.
pub(crate) async fn delete(handle: &Handle, name: &str) -> Result<(), LinkError> {
    let Some(link) = find(handle, name).await? else { return Ok(()) };
    match handle.link().del(link.header.index).execute().await {
        Err(error) if is_errno(&error, Errno::NODEV) => Ok(()),
        other => refused("delete link", name, other),
    }
}

/// Deletes the tunnel device of this name; one that is no tunnel is somebody else's.
pub(crate) async fn delete_tunnel(handle: &Handle, name: &str) -> Result<(), LinkError> {
    match find(handle, name).await? {
        Some(link) if is_kind(&link, InfoKind::Vxlan) => delete(handle, name).await,
        Some(_) | None => Ok(()),
    }
}

/// The names of all job links with this prefix.
pub(crate) async fn job_links(
    handle: &Handle,
    prefix: &VethPrefix,
) -> Result<Vec<String>, LinkError> {
    let all: Vec<LinkMessage> =
        request("list", "links", handle.link().get().execute().try_collect()).await?;
    let names = all.iter().filter_map(name_of).filter(|name| is_veth_name(prefix, name));
    Ok(names.map(str::to_owned).collect())
}

/// One pair: the host's end on the bridge, isolated and still down, the other one as `eth0` in the
/// namespace behind `namespace`.
pub(crate) async fn add_pair(
    handle: &Handle,
    config: &Config,
    ip: Ipv4Addr,
    mtu: u32,
    namespace: RawFd,
) -> Result<(), LinkError> {
    let name = veth_name(&config.veth_prefix, ip);
    let bridge = config.bridge.as_str();
    let bridge = find(handle, bridge).await?.ok_or_else(|| LinkError::Gone(bridge.to_owned()))?;
    let inner = LinkUnspec::new_with_name("eth0")
        .address(mac(0, ip).to_vec())
        .mtu(mtu)
        .setns_by_fd(namespace)
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new(&name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
        .mtu(mtu)
        .controller(bridge.header.index)
        .build();
    request("create link pair", &name, handle.link().add(pair).execute()).await?;
    let index = index_of(handle, &name).await?;
    let isolated = LinkBridgePort::new(index).isolated(true).build();
    request("isolate bridge port", &name, handle.link().set_port(isolated).execute()).await
}

/// Brings a link up.
pub(crate) async fn bring_up(handle: &Handle, name: &str) -> Result<(), LinkError> {
    let index = index_of(handle, name).await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    request("bring up link", name, handle.link().set(up).execute()).await
}

/// The index of a link, if there is one of this name.
pub(crate) async fn find_index(handle: &Handle, name: &str) -> Result<Option<u32>, LinkError> {
    Ok(find(handle, name).await?.map(|link| link.header.index))
}

/// Has a program decide about all IPv4 packets that come in over a link, in the place of the one that did:
/// there is no moment without.
pub(crate) async fn decide(handle: &Handle, index: u32, by: &Program) -> Result<(), LinkError> {
    const PRIORITY: u16 = 1;
    const IPV4: u16 = 0x0800;
    let object = format!("link {index}");
    match handle.qdisc().add(index as i32).ingress().execute().await {
        Err(error) if is_errno(&error, Errno::EXIST) => {}
        other => refused("prepare filters of", &object, other)?,
    }
    let mut filter = TcMessage::with_index(index as i32);
    filter.header.parent = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
    filter.header.handle = TcHandle { major: 0, minor: 1 };
    filter.header.info = TcHandle { major: PRIORITY, minor: IPV4.to_be() }.into();
    let program = by.as_fd().as_raw_fd() as u32;
    let options = [
        TcFilterBpfOption::ProgFd(program),
        TcFilterBpfOption::ProgName("flynn".to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    filter.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
        TcAttribute::Options(options.map(TcOption::Bpf).into()),
    ];
    let message = RouteNetlinkMessage::NewTrafficFilter(filter);
    refused("filter", &object, tell(handle, message, NLM_F_CREATE | NLM_F_REPLACE).await)
}

/// Takes out what [`decide`] put in; nothing being there is success.
pub(crate) async fn undecide(handle: &Handle, index: u32) -> Result<(), LinkError> {
    let mut request = handle.qdisc().del(index as i32);
    let header = &mut request.message_mut().header;
    (header.parent, header.handle) = (TcHandle::INGRESS, TcHandle { major: u16::MAX, minor: 0 });
    match request.execute().await {
        Err(error) if [Errno::NOENT, Errno::INVAL].iter().any(|none| is_errno(&error, *none)) => {
            Ok(())
        }
        other => refused("remove filters of", &format!("link {index}"), other),
    }
}

/// A request that rtnetlink has no builder for.
async fn tell(
    handle: &Handle,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), rtnetlink::Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(error));
        }
    }
    Ok(())
}

/// Inside a job's namespace: loopback, address and default route.
pub(crate) async fn set_up_job(
    handle: &Handle,
    ip: Ipv4Addr,
    subnet: Subnet,
) -> Result<(), LinkError> {
    bring_up(handle, "lo").await?;
    let index = index_of(handle, "eth0").await?;
    let address = handle.address().add(index, IpAddr::V4(ip), subnet.prefix_len());
    request("add address to", "eth0", address.execute()).await?;
    bring_up(handle, "eth0").await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(subnet.bridge_ip()).build();
    request("add the default route of", "eth0", handle.route().add(route).execute()).await
}

async fn set_only_address(
    handle: &Handle,
    name: &str,
    index: u32,
    subnet: Subnet,
) -> Result<(), LinkError> {
    let listing = handle.address().get().set_link_index_filter(index).execute();
    let all: Vec<AddressMessage> =
        request("list addresses of", name, listing.try_collect()).await?;
    let mut present = false;
    for address in all.into_iter().filter(|a| a.header.family == AddressFamily::Inet) {
        if local_address(&address) == Some(IpAddr::V4(subnet.bridge_ip()))
            && address.header.prefix_len == subnet.prefix_len()
        {
            present = true;
        } else {
            let removal = handle.address().del(address).execute();
            request("remove an old address from", name, removal).await?;
        }
    }
    if present {
        return Ok(());
    }
    let ip = IpAddr::V4(subnet.bridge_ip());
    let addition = handle.address().add(index, ip, subnet.prefix_len()).execute();
    request("add address to", name, addition).await
}

fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None }
    })
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, LinkError> {
    let query = handle.link().get().match_name(name.to_owned()).execute();
    let mut query = std::pin::pin!(query);
    match query.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if is_errno(&error, Errno::NODEV) => Ok(None),
        Err(error) => refused("look up link", name, Err(error)),
    }
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, LinkError> {
    let link = find(handle, name).await?;
    link.map(|link| link.header.index).ok_or_else(|| LinkError::Gone(name.to_owned()))
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.as_str()) } else { None }
    })
}

fn is_kind(link: &LinkMessage, kind: InfoKind) -> bool {
    let kind = LinkInfo::Kind(kind);
    link.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&kind)),
    )
}

async fn request<T>(
    action: &'static str,
    object: &str,
    future: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, LinkError> {
    refused(action, object, future.await)
}

fn refused<T>(
    action: &'static str,
    object: &str,
    result: Result<T, rtnetlink::Error>,
) -> Result<T, LinkError> {
    result.map_err(|source| LinkError::Request { action, object: object.to_owned(), source })
}

fn is_errno(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hardware_addresses_follow_from_the_address() {
        let prefix: VethPrefix = "flv".parse().unwrap();
        let ip = Ipv4Addr::new(100, 100, 12, 2);
        assert_eq!(veth_name(&prefix, ip), "flv64640c02");
        assert_eq!(job_mac(ip), "fe:00:64:64:0c:02");
        assert!(is_veth_name(&prefix, "flv64640c02"));
        for other in ["flynnbr0", "flv", "flv64640c0x", "xflv64640c02", "flv64640c021"] {
            assert!(!is_veth_name(&prefix, other), "{other}");
        }
    }
}
