//! Names below `.discoverd` in layer URLs, asked of whatever discoverd the host was told of last. Other
//! names are the system's.

use std::io;

use discoverd_api::{Client, DiscoverdResolver, Servers};
use kit_http::{Resolve, Resolved};
use tokio::sync::watch;

use crate::settings::Told;

/// A resolver that may be made before discoverd is known.
#[derive(Debug)]
pub(crate) struct Names {
    told: watch::Receiver<Told>,
}

impl Names {
    pub(crate) fn new(told: watch::Receiver<Told>) -> Self {
        Self { told }
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a> {
        Box::pin(async move {
            let discoverd = self.told.borrow().discoverd.clone();
            let Some(discoverd) = discoverd.filter(|discoverd| !discoverd.url.is_empty()) else {
                return Ok(None);
            };
            let client = Client::new(&Servers::parse(&discoverd.url)).map_err(io::Error::other)?;
            DiscoverdResolver::new(client).resolve(host, port).await
        })
    }
}
