//! The steps, as data: what is done, in which order, with what. How is `actions`' business.

use std::collections::BTreeMap;

use controller_api::{Port, ProcessType, Strategy, VolumeReq};

use crate::values::Value;

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, for `--steps` and for later steps that use what it made.
    pub id: &'static str,
    /// What it does.
    pub action: Action,
}

/// What a step can do.
#[derive(Clone, Debug)]
pub enum Action {
    /// These variables must be set.
    RequireEnv(Vec<&'static str>),
    /// These TCP ports must be free on every host.
    ResourceCheck(Vec<Value>),
    /// Runs an app's jobs without a controller.
    RunApp(Box<AppSpec>),
    /// All hosts have a subnet, know discoverd and are in it.
    WaitHosts,
    /// Makes a secret.
    GenRandom(RandomSpec),
    /// Makes a certificate.
    GenTlsCert(CertificateSpec),
    /// Something answers.
    Wait(WaitSpec),
    /// Tells the controller of an app that an earlier step runs.
    AddApp(&'static str),
    /// Has the controller run an app.
    DeployApp(Box<AppSpec>),
    /// Sets the counts of an app of an earlier step.
    ScaleApp {
        /// The step.
        app: &'static str,
        /// Counts by process type.
        counts: Vec<(&'static str, Count)>,
    },
    /// Makes a provider of resources known.
    AddProvider {
        /// Its name.
        name: &'static str,
        /// Where it is asked.
        url: &'static str,
    },
    /// Leads a domain to a service.
    AddRoute(RouteSpec),
    /// Makes an image known that jobs of others run in.
    CreateArtifact {
        /// The image.
        image: &'static str,
    },
}

impl Action {
    /// The word in the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RequireEnv(_) => "require-env",
            Self::ResourceCheck(_) => "resource-check",
            Self::RunApp(_) => "run-app",
            Self::WaitHosts => "wait-hosts",
            Self::GenRandom(_) => "gen-random",
            Self::GenTlsCert(_) => "gen-tls-cert",
            Self::Wait(_) => "wait",
            Self::AddApp(_) => "add-app",
            Self::DeployApp(_) => "deploy-app",
            Self::ScaleApp { .. } => "scale-app",
            Self::AddProvider { .. } => "add-provider",
            Self::AddRoute(_) => "add-route",
            Self::CreateArtifact { .. } => "create-artifact",
        }
    }
}

/// An app of the platform and its jobs.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// The app's name.
    pub name: &'static str,
    /// The image its processes run in.
    pub image: &'static str,
    /// Metadata beside the mark of a system app.
    pub meta: BTreeMap<String, String>,
    /// How it is deployed later.
    pub strategy: Strategy,
    /// Seconds a step of such a deployment may take; 0 is the default.
    pub deploy_timeout: i32,
    /// Environment of all processes.
    pub env: Vec<(&'static str, Value)>,
    /// Variables of the bootstrap's environment whose name begins so are the app's, too.
    pub env_prefix: Option<&'static str>,
    /// The process types.
    pub processes: Vec<ProcessSpec>,
    /// What it needs of providers; their variables go into the environment.
    pub resources: Vec<ResourceSpec>,
}

/// A process type and how many jobs of it are run.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Its name.
    pub name: &'static str,
    /// How many jobs.
    pub count: Count,
    /// Environment on top of the app's.
    pub env: Vec<(&'static str, Value)>,
    /// Everything else.
    pub process: ProcessType,
}

/// How many jobs of a process type are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// One on every host.
    EveryHost,
    /// So many in all.
    Jobs {
        /// On a single host.
        singleton: u32,
        /// On several.
        cluster: u32,
    },
}

impl Count {
    /// The count of a formation: of process types that run on every host it is 1.
    pub(crate) fn per_formation(self, is_singleton: bool) -> u32 {
        match self {
            Self::EveryHost => 1,
            Self::Jobs { singleton, .. } if is_singleton => singleton,
            Self::Jobs { cluster, .. } => cluster,
        }
    }
}

/// A route of the platform.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The step of its app.
    pub app: &'static str,
    /// Where requests go.
    pub service: &'static str,
    /// The domain.
    pub domain: Value,
    /// Whether its backends are drained before they stop.
    pub drain_backends: bool,
}

/// Something a provider makes.
#[derive(Clone, Debug)]
pub struct ResourceSpec {
    /// The provider's name.
    pub name: &'static str,
    /// Where it is asked; the host may be a name below `.discoverd`.
    pub url: &'static str,
}

/// A secret.
#[derive(Clone, Debug)]
pub struct RandomSpec {
    /// How many random bytes.
    pub length: usize,
    /// How they are written.
    pub encoding: Encoding,
    /// Used instead when it is not empty.
    pub given: Value,
}

/// How random bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Two digits a byte.
    Hex,
    /// Standard alphabet, padded.
    Base64,
    /// URL alphabet, not padded.
    Base64Safe,
    /// A random UUID, whatever the length.
    Uuid,
}

/// A certificate: the given one if all three are given, else one of an authority made for it.
#[derive(Clone, Debug)]
pub struct CertificateSpec {
    /// The names it is for.
    pub hosts: Vec<Value>,
    /// A given authority.
    pub ca_cert: Value,
    /// A given certificate.
    pub cert: Value,
    /// A given key.
    pub key: Value,
}

/// Something that must answer.
#[derive(Clone, Debug)]
pub struct WaitSpec {
    /// Where, and what is an answer.
    pub target: WaitTarget,
}

/// What is waited for.
#[derive(Clone, Debug)]
pub enum WaitTarget {
    /// A connection to `host:port`.
    Tcp(Value),
    /// An HTTP status.
    Http {
        /// The URL.
        url: Value,
        /// The Host header, where it is not the URL's.
        host: Option<Value>,
        /// The status.
        status: u16,
    },
}

/// All steps of this version, in order.
pub fn all() -> Vec<Step> {
    let mut steps = layer0();
    steps.extend(crate::platform::steps());
    steps
}

/// Hosts with discovery and a network.
fn layer0() -> Vec<Step> {
    vec![
        Step { id: "require-env", action: Action::RequireEnv(vec!["CLUSTER_DOMAIN"]) },
        Step { id: "resource-check", action: Action::ResourceCheck(platform_ports()) },
        Step { id: "discoverd", action: Action::RunApp(Box::new(discoverd())) },
        Step { id: "flannel", action: Action::RunApp(Box::new(flannel())) },
        Step { id: "wait-hosts", action: Action::WaitHosts },
    ]
}

/// What must be free on every host: the router's ports as they are configured, and those of layer 0.
fn platform_ports() -> Vec<Value> {
    vec![http_port(), https_port(), Value::text("5002"), Value::text("1111")]
}

/// The router's port.
pub(crate) fn http_port() -> Value {
    Value::EnvOr("HTTP_PORT", "80")
}

/// The router's TLS port.
pub(crate) fn https_port() -> Value {
    Value::EnvOr("HTTPS_PORT", "443")
}

fn discoverd() -> AppSpec {
    AppSpec {
        meta: critical(),
        strategy: Strategy::DiscoverdMeta,
        deploy_timeout: 300,
        env: vec![
            ("DISCOVERD", Value::text("none")),
            ("DISCOVERD_PEERS", Value::Peers(1111)),
            // DNS is answered on the bridge, which is there once the overlay ran.
            ("DISCOVERD_WAIT_NET_DNS", Value::text("true")),
            ("CLUSTER_DOMAIN", Value::Env("CLUSTER_DOMAIN")),
            ("DEBUG", Value::Env("DEBUG")),
        ],
        processes: vec![ProcessSpec {
            name: "app",
            count: Count::EveryHost,
            env: Vec::new(),
            process: ProcessType {
                args: args(&["/bin/flynn-core", "discoverd"]),
                ports: vec![tcp(1111), tcp(53)],
                volumes: vec![data_volume()],
                service: "discoverd".to_owned(),
                linux_capabilities: args(&["CAP_NET_BIND_SERVICE"]),
                ..host_process()
            },
        }],
        ..core_app("discoverd")
    }
}

/// The overlay; the seeds and every client know it as flannel.
fn flannel() -> AppSpec {
    AppSpec {
        strategy: Strategy::OneByOne,
        env: vec![
            ("DISCOVERD", Value::text("none")),
            ("BACKEND", Value::Env("FLANNEL_BACKEND")),
            ("NETWORK", Value::Env("FLANNEL_NETWORK")),
        ],
        processes: vec![ProcessSpec {
            name: "app",
            count: Count::EveryHost,
            env: Vec::new(),
            process: ProcessType {
                args: args(&["/bin/flynn-core", "overlay"]),
                ports: vec![tcp(5002)],
                // The lease is remembered here for a boot without quorum.
                volumes: vec![data_volume()],
                linux_capabilities: args(&["CAP_NET_ADMIN"]),
                ..host_process()
            },
        }],
        ..core_app("flannel")
    }
}

/// An app in the image of discovery, overlay and router.
pub(crate) fn core_app(name: &'static str) -> AppSpec {
    app(name, "core")
}

/// An app whose process types and environment are still to be filled in.
pub(crate) fn app(name: &'static str, image: &'static str) -> AppSpec {
    AppSpec {
        name,
        image,
        meta: BTreeMap::new(),
        strategy: Strategy::AllAtOnce,
        deploy_timeout: 0,
        env: Vec::new(),
        env_prefix: None,
        processes: Vec::new(),
        resources: Vec::new(),
    }
}

/// A process that is part of its host: in its network, restarted by it.
pub(crate) fn host_process() -> ProcessType {
    ProcessType { omni: true, host_network: true, resurrect: true, ..ProcessType::default() }
}

pub(crate) fn critical() -> BTreeMap<String, String> {
    [(controller_api::META_SYSTEM_CRITICAL.to_owned(), "true".to_owned())].into()
}

pub(crate) fn tcp(port: u16) -> Port {
    Port { port, proto: "tcp".to_owned(), service: None }
}

pub(crate) fn data_volume() -> VolumeReq {
    VolumeReq { path: "/data".to_owned(), delete_on_stop: false }
}

pub(crate) fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_0_comes_first_and_names_are_not_used_twice() {
        let all = all();
        let names: Vec<_> = all.iter().map(|step| (step.action.name(), step.id)).collect();
        assert_eq!(
            names[..5],
            [
                ("require-env", "require-env"),
                ("resource-check", "resource-check"),
                ("run-app", "discoverd"),
                ("run-app", "flannel"),
                ("wait-hosts", "wait-hosts"),
            ]
        );
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|step| step.id).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
