//! The link with the external address, asked of the kernel.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkMessage;

use crate::netlink::{KernelError, request, with_netlink};
use crate::tunnel::mtu_of;

/// What Ethernet has, for addresses that are on no link of this host (behind NAT, say).
const ETHERNET: u32 = 1500;

/// The largest packet of the link that has `ip`.
pub(crate) async fn mtu(ip: Ipv4Addr) -> u32 {
    match ask(ip).await {
        Ok(Some(mtu)) => mtu,
        Ok(None) => ETHERNET,
        Err(error) => {
            tracing::warn!(%error, "cannot ask the kernel for the largest packet, assuming Ethernet");
            ETHERNET
        }
    }
}

async fn ask(ip: Ipv4Addr) -> Result<Option<u32>, KernelError> {
    with_netlink(async |handle| {
        let addresses = handle.address().get().execute();
        let addresses: Vec<AddressMessage> =
            request("list", "addresses", addresses.try_collect()).await?;
        let Some(found) = addresses.iter().find(|address| has(address, ip)) else {
            return Ok(None);
        };
        let link = handle.link().get().match_index(found.header.index).execute();
        let links: Vec<LinkMessage> = request("look up", "link", link.try_collect()).await?;
        Ok(links.iter().find_map(mtu_of))
    })
    .await
}

fn has(address: &AddressMessage, ip: Ipv4Addr) -> bool {
    address.attributes.contains(&AddressAttribute::Local(IpAddr::V4(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_is_found_and_a_stranger_is_not() {
        assert!(ask(Ipv4Addr::LOCALHOST).await.unwrap().is_some_and(|mtu| mtu >= ETHERNET));
        assert_eq!(mtu(Ipv4Addr::new(192, 0, 2, 7)).await, ETHERNET);
    }
}
