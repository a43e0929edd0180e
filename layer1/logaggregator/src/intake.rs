//! Where hosts' lines arrive: TCP connections with octet-counted frames. A wrong line costs itself, a
//! wrong frame its connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kit_syslog::FrameCodec;
use kit_tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::codec::FramedRead;

use crate::line::Line;
use crate::store::Store;

/// Connections at one time; further ones wait in the kernel's queue. Each host has one.
const MAX_CONNECTIONS: usize = 4096;

/// The pause after a connection could not be accepted: descriptors ran out, at once would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of hosts that are gone end by TCP keep-alive; hosts may rightly be silent for days.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Accepts hosts until the tasks are stopped.
pub(crate) fn start(tasks: &Tasks, listener: TcpListener, store: Store) {
    let node = tasks.clone();
    tasks.spawn_until_stop("syslog", async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let host = receive(stream, peer, store.clone(), slot);
                    node.spawn_until_stop("host", host);
                }
                Err(error) => {
                    tracing::warn!(%error, "host's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn receive(stream: TcpStream, peer: SocketAddr, store: Store, _slot: OwnedSemaphorePermit) {
    keep_alive(&stream);
    let mut frames = FramedRead::new(stream, FrameCodec::stream());
    let (mut taken, mut dropped) = (0_u64, 0_u64);
    while let Some(frame) = frames.next().await {
        match frame.map(|frame| Line::parse(&frame)) {
            Ok(Ok(line)) => {
                store.insert(line);
                taken += 1;
            }
            Ok(Err(error)) => {
                // The first one tells what is wrong; a sender that is wrong is so in every line.
                if dropped == 0 {
                    tracing::warn!(%peer, %error, "line dropped");
                }
                dropped += 1;
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "host's connection closed");
                break;
            }
        }
    }
    tracing::debug!(%peer, taken, dropped, "host left");
}

fn keep_alive(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    // Fails only when the connection is gone already, which its first read will tell.
    drop(socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
}
