//! The link with the external address, asked of the kernel.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

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

async fn ask(ip: Ipv4Addr) -> Result<Option<u32>, Box<dyn std::error::Error + Send + Sync>> {
    let (connection, handle, _messages) = rtnetlink::new_connection()?;
    let question = async move {
        let addresses = handle.address().get().execute();
        let addresses: Vec<AddressMessage> = addresses.try_collect().await?;
        let Some(found) = addresses.iter().find(|address| has(address, ip)) else {
            return Ok(None);
        };
        let link = handle.link().get().match_index(found.header.index).execute();
        let links: Vec<LinkMessage> = link.try_collect().await?;
        Ok(links.iter().find_map(mtu_of))
    };
    either(question, connection).await
}

/// The connection must be driven while the question is asked; it ends by itself afterwards.
async fn either<T, E>(
    question: impl Future<Output = Result<Option<T>, rtnetlink::Error>>,
    connection: impl Future<Output = ()>,
) -> Result<Option<T>, E>
where
    E: From<rtnetlink::Error>,
{
    tokio::select! {
        answer = question => Ok(answer?),
        () = connection => Ok(None),
    }
}

fn has(address: &AddressMessage, ip: Ipv4Addr) -> bool {
    address.attributes.contains(&AddressAttribute::Local(IpAddr::V4(ip)))
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None }
    })
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
