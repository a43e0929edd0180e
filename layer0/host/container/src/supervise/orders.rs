//! What clients ask for and send.

use std::time::Instant;

use super::{DEREGISTER, Supervisor};
use crate::protocol::{ClientFrame, Notice, Order, Request, Stream};

impl Supervisor {
    /// Does everything that clients have sent and that can be done now.
    pub(super) fn read_orders(&mut self, now: Instant) {
        for at in 0..self.clients.len() {
            loop {
                let room = self.streams.has_room();
                let Some(frame) = self.clients.get(at).and_then(|client| client.next_frame(room))
                else {
                    break;
                };
                match frame {
                    ClientFrame::Stdin(bytes) => self.streams.push_input(&bytes),
                    ClientFrame::StdinEnd => self.streams.end_input(),
                    ClientFrame::Request(request) => self.answer(at, request, now),
                }
            }
        }
    }

    fn answer(&mut self, at: usize, request: Request, now: Instant) {
        let error = self.obey(at, request.order, now).err();
        if let Some(client) = self.clients.get(at) {
            client.notify(&Notice::Reply { id: request.id, error });
        }
    }

    fn obey(&mut self, at: usize, order: Order, now: Instant) -> Result<(), String> {
        match order {
            Order::GetState => {
                let report = Notice::State(Box::new(self.report()));
                if let Some(client) = self.clients.get(at) {
                    client.notify(&report);
                }
            }
            Order::Resume => {
                self.resume_wanted = true;
                self.resume_if_wanted();
            }
            Order::Signal { signal } => {
                if !(1..=64).contains(&signal) {
                    return Err(format!("{signal} is no signal"));
                }
                if self.is_starting() {
                    self.held_signal = Some((signal, now));
                } else if signal == libc::SIGTERM && self.services.is_leaving() {
                    // Whoever asked for both wants them in this order.
                    self.held_signal = Some((signal, now + DEREGISTER));
                } else {
                    self.send_signal(signal)?;
                }
            }
            Order::OpenOutput { stdout, stderr, init } => {
                // A terminal has one stream only: its stderr ends at once.
                let wanted = [stdout, stderr, init];
                debug_assert_eq!(wanted.len(), Stream::ALL.len());
                let spools = &self.spools;
                if let Some(client) = self.clients.get(at) {
                    client.follow(wanted, spools);
                }
            }
            Order::Resize { height, width } => self.streams.resize(height, width)?,
            Order::Deregister => self.stop_services("asked to deregister", now),
            Order::SetDiscoverd { urls } => self.services.set_discoverd(&urls, now),
            Order::HttpsResult { check, healthy } => {
                self.services.https_result(check, healthy, now)
            }
        }
        Ok(())
    }
}
