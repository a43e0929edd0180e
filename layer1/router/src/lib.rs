//! The router: HTTP(S), WebSocket and TCP load balancer in front of every app.
//!
//! It listens at once with what its disk holds and never asks anybody during a request: routes come
//! from a [`RouteSource`], backends from a [`BackendSource`], both in the background. It does no
//! health checks (discovery's business), no caching, no compression, no redirects.
//!
//! Downwards: [`start`] wires the parts; `core` turns what the sources tell into a published table;
//! `worker` owns the connections of one thread; `http` answers a request; `tcp` serves TCP routes.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod api;
mod certificates;
mod config;
mod connection;
mod core;
mod disk;
mod events;
mod http;
mod listen;
mod pool;
mod proxy_protocol;
mod server;
mod service;
mod source;
mod sticky;
mod table;
mod tcp;
mod tunnel;
mod worker;

pub use config::{Config, ConfigError, KeyPairPem, Limits};
pub use server::{Deps, FromEnvError, StartError, start};
pub use source::{
    BackendSource, ControllerRoutes, Discovery, Following, Instance, Instances, Registration,
    RouteSource, RouteUpdate, SourceError,
};
pub use sticky::CookieKey;
