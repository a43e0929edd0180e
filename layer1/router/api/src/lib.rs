//! What routes and routers look like on the wire: [`Route`] and [`Certificate`] as the controller
//! stores and streams them, [`Event`] and [`Backend`] as every router's own API reports them, and
//! the texts that refuse a bad route.
//!
//! No matching, no sockets, no storage: the first is crate `routes`, the second `router`, the third
//! the controller.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod certificate;
mod event;
mod refusal;
mod route;
mod time;

pub use certificate::{Certificate, CertificateId, CertificateProblem, PrivateKeyPem};
pub use event::{Backend, Event, EventKind, UnknownEventKind};
pub use refusal::{RouteBodyError, RouteRefusal, TYPE_FIELD, TYPE_MESSAGE};
pub use route::{ParseRouteKindError, Route, RouteKind, TCP_PORTS, normal_path};
pub use time::zero_time;
