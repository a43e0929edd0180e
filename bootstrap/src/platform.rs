//! The steps of layer 1, as data: database, controller, scheduler, router, and what else people need.
//!
//! PostgreSQL and the controller are run without a controller, because there is none yet, and told to
//! it afterwards; from then on the scheduler keeps them like every other app.

use controller_api::{HealthCheck, Port, ProcessType, Resources, Service, Strategy};
use host_api::ResourceKind;

use crate::steps::{
    Action, AppSpec, CertificateSpec, Count, Encoding, ProcessSpec, RandomSpec, ResourceSpec,
    RouteSpec, Step, WaitSpec, WaitTarget, app, args, critical, data_volume, http_port, https_port,
    tcp,
};
use crate::values::Value;

const POSTGRES_PROVIDER: &str = "http://postgres-api.discoverd/databases";
/// One on a single host, several otherwise.
const ONE_OR_TWO: Count = Count::Jobs { singleton: 1, cluster: 2 };
/// Where gitreceive works on repositories: several pushes at a time, each with what it unpacks.
const GIT_SCRATCH: i64 = 16 << 30;
/// Until databases form chains, there is one server on any number of hosts.
const ONE: Count = Count::Jobs { singleton: 1, cluster: 1 };

/// All of them, in order.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps = database();
    steps.extend(controller());
    steps.extend(edge());
    steps.extend(pushes());
    steps
}

fn database() -> Vec<Step> {
    vec![
        random("pg-password", 16, Encoding::Hex, "PG_PASSWORD"),
        Step { id: "postgres", action: Action::RunApp(Box::new(postgres())) },
        wait_http("postgres-wait", "http://leader.postgres.discoverd:5433/.well-known/status", 200),
        wait_http("postgres-api-wait", "http://postgres-api.discoverd/ping", 200),
    ]
}

fn controller() -> Vec<Step> {
    vec![
        random("controller-key", 16, Encoding::Hex, "CONTROLLER_KEY"),
        random("name-seed", 10, Encoding::Hex, "NAME_SEED"),
        random("router-sticky-key", 32, Encoding::Base64, "STICKY_KEY"),
        Step { id: "controller-cert", action: Action::GenTlsCert(certificate()) },
        Step { id: "controller", action: Action::RunApp(Box::new(controller_app())) },
        wait_http("controller-wait", "http://controller.discoverd/apps", 401),
        Step { id: "controller-inception", action: Action::AddApp("controller") },
        Step { id: "postgres-inception", action: Action::AddApp("postgres") },
        Step { id: "flannel-inception", action: Action::AddApp("flannel") },
        Step { id: "discoverd-inception", action: Action::AddApp("discoverd") },
        Step { id: "scheduler", action: Action::RunApp(Box::new(scheduler_app())) },
        Step { id: "scheduler-inception", action: Action::AddApp("scheduler") },
        Step {
            id: "controller-scale",
            action: Action::ScaleApp {
                app: "controller",
                counts: vec![("web", ONE_OR_TWO), ("worker", ONE_OR_TWO)],
            },
        },
        Step {
            id: "provider-postgres",
            action: Action::AddProvider { name: "postgres", url: POSTGRES_PROVIDER },
        },
    ]
}

fn edge() -> Vec<Step> {
    vec![
        Step { id: "router", action: Action::DeployApp(Box::new(router())) },
        Step {
            id: "router-wait",
            action: Action::Wait(WaitSpec {
                target: WaitTarget::Http {
                    url: Value::Joined(vec![
                        Value::text("http://router-http.discoverd:"),
                        http_port(),
                        Value::text("/"),
                    ]),
                    host: None,
                    status: 404,
                },
            }),
        },
        Step {
            id: "controller-route",
            action: Action::AddRoute(RouteSpec {
                app: "controller",
                service: "controller",
                domain: below_domain("controller."),
                drain_backends: false,
            }),
        },
        Step { id: "logaggregator", action: Action::DeployApp(Box::new(logaggregator())) },
        Step { id: "blobstore", action: Action::DeployApp(Box::new(blobstore())) },
    ]
}

/// What takes a push to a running release: the images builds and slugs run in, and git.
fn pushes() -> Vec<Step> {
    vec![
        Step { id: "slugbuilder-image", action: Action::CreateArtifact { image: "stack-build" } },
        Step { id: "slugrunner-image", action: Action::CreateArtifact { image: "stack-run" } },
        Step { id: "gitreceive", action: Action::DeployApp(Box::new(gitreceive())) },
        Step {
            id: "gitreceive-route",
            action: Action::AddRoute(RouteSpec {
                app: "gitreceive",
                service: "gitreceive",
                domain: below_domain("git."),
                drain_backends: true,
            }),
        },
    ]
}

fn random(id: &'static str, length: usize, encoding: Encoding, env: &'static str) -> Step {
    let spec = RandomSpec { length, encoding, given: Value::Env(env) };
    Step { id, action: Action::GenRandom(spec) }
}

fn wait_http(id: &'static str, url: &str, status: u16) -> Step {
    let target = WaitTarget::Http { url: Value::text(url), host: None, status };
    Step { id, action: Action::Wait(WaitSpec { target }) }
}

fn made(step: &'static str, field: &'static str) -> Value {
    Value::Made { step, field }
}

fn below_domain(name: &str) -> Value {
    Value::Joined(vec![Value::text(name), Value::Domain])
}

fn certificate() -> CertificateSpec {
    CertificateSpec {
        hosts: vec![Value::Domain, below_domain("*.")],
        ca_cert: Value::Env("TLS_CA"),
        cert: Value::Env("TLS_CERT"),
        key: Value::Env("TLS_KEY"),
    }
}

fn process(name: &'static str, count: Count, process: ProcessType) -> ProcessSpec {
    let process = ProcessType { resurrect: true, ..process };
    ProcessSpec { name, count, env: Vec::new(), process }
}

/// A port whose service the host registers once it answers connections.
fn served(port: u16, service: &str) -> Port {
    let check = HealthCheck { kind: "tcp".to_owned(), ..HealthCheck::default() };
    let service = Service { name: service.to_owned(), create: true, check: Some(check) };
    Port { service: Some(service), ..tcp(port) }
}

fn database_of_its_own() -> Vec<ResourceSpec> {
    vec![ResourceSpec { name: "postgres", url: POSTGRES_PROVIDER }]
}

fn postgres() -> AppSpec {
    AppSpec {
        meta: critical(),
        strategy: Strategy::Sirenia,
        deploy_timeout: 120,
        env: vec![
            ("FLYNN_POSTGRES", Value::text("postgres")),
            ("SIRENIA_PROCESS", Value::text("postgres")),
            ("SINGLETON", Value::text("true")),
            ("PGHOST", Value::text("leader.postgres.discoverd")),
            ("PGUSER", Value::text("flynn")),
            ("PGDATABASE", Value::text("postgres")),
            ("PGPASSWORD", made("pg-password", "Data")),
        ],
        processes: vec![
            process(
                "postgres",
                ONE,
                ProcessType {
                    args: args(&["/bin/flynn-core", "postgres"]),
                    ports: vec![tcp(5432)],
                    volumes: vec![data_volume()],
                    service: "postgres".to_owned(),
                    ..ProcessType::default()
                },
            ),
            process(
                "web",
                ONE_OR_TWO,
                ProcessType {
                    args: args(&["/bin/flynn-core", "postgres-api"]),
                    ports: vec![served(80, "postgres-api")],
                    ..ProcessType::default()
                },
            ),
        ],
        ..app("postgres", "postgres")
    }
}

fn controller_app() -> AppSpec {
    AppSpec {
        meta: critical(),
        strategy: Strategy::OneByOne,
        deploy_timeout: 120,
        env: vec![
            ("AUTH_KEY", made("controller-key", "Data")),
            ("DEFAULT_ROUTE_DOMAIN", Value::Domain),
            ("NAME_SEED", made("name-seed", "Data")),
            ("CA_CERT", made("controller-cert", "CACert")),
        ],
        processes: vec![
            process(
                "web",
                ONE_OR_TWO,
                ProcessType {
                    args: args(&["/bin/flynn-component", "controller"]),
                    ports: vec![served(80, "controller")],
                    service: "controller".to_owned(),
                    ..ProcessType::default()
                },
            ),
            process(
                "worker",
                ONE_OR_TWO,
                ProcessType {
                    args: args(&["/bin/flynn-component", "worker"]),
                    ports: vec![served(80, "controller-worker")],
                    service: "controller-worker".to_owned(),
                    ..ProcessType::default()
                },
            ),
        ],
        resources: database_of_its_own(),
        ..app("controller", "component")
    }
}

/// Not a process type of the controller's app, as in the original: the first scheduler is run like the
/// database, before there is one to start it, and an app of its own has one origin.
fn scheduler_app() -> AppSpec {
    AppSpec {
        meta: critical(),
        strategy: Strategy::OneByOne,
        env: vec![("CONTROLLER_KEY", made("controller-key", "Data"))],
        processes: vec![process(
            "scheduler",
            Count::EveryHost,
            ProcessType {
                omni: true,
                args: args(&["/bin/flynn-component", "scheduler"]),
                ports: vec![tcp(0)],
                ..ProcessType::default()
            },
        )],
        ..app("scheduler", "component")
    }
}

fn router() -> AppSpec {
    AppSpec {
        strategy: Strategy::OneByOne,
        env: vec![
            ("CONTROLLER_KEY", made("controller-key", "Data")),
            ("TLSCERT", made("controller-cert", "Cert")),
            ("TLSKEY", made("controller-cert", "PrivateKey")),
            ("COOKIE_KEY", made("router-sticky-key", "Data")),
            ("DEFAULT_HTTP_PORT", http_port()),
            ("DEFAULT_HTTPS_PORT", https_port()),
            ("PROXY_PROTOCOL", Value::Env("PROXY_PROTOCOL")),
            // Loopback too: names below .localhost lead there.
            ("LISTEN_IP", Value::text("0.0.0.0")),
        ],
        processes: vec![process(
            "app",
            Count::EveryHost,
            ProcessType {
                omni: true,
                host_network: true,
                args: args(&["/bin/flynn-core", "router"]),
                volumes: vec![data_volume()],
                linux_capabilities: args(&["CAP_NET_BIND_SERVICE"]),
                ..ProcessType::default()
            },
        )],
        ..app("router", "core")
    }
}

fn logaggregator() -> AppSpec {
    AppSpec {
        processes: vec![process(
            "app",
            ONE_OR_TWO,
            ProcessType {
                args: args(&["/bin/flynn-component", "logaggregator"]),
                ports: vec![tcp(80), tcp(514)],
                ..ProcessType::default()
            },
        )],
        ..app("logaggregator", "component")
    }
}

fn blobstore() -> AppSpec {
    AppSpec {
        strategy: Strategy::OneByOne,
        env: vec![("CONTROLLER_KEY", made("controller-key", "Data"))],
        processes: vec![process(
            "web",
            ONE_OR_TWO,
            ProcessType {
                args: args(&["/bin/flynn-component", "blobstore"]),
                ports: vec![served(80, "blobstore")],
                ..ProcessType::default()
            },
        )],
        resources: database_of_its_own(),
        ..app("blobstore", "component")
    }
}

fn gitreceive() -> AppSpec {
    // Repositories are worked on here and kept in the blob store. Scratch space, not a volume: it is
    // bounded, and whoever restarts the job finds it empty.
    let mut resources = Resources::default();
    resources.set(ResourceKind::TempDisk, Some(GIT_SCRATCH), Some(GIT_SCRATCH));
    AppSpec {
        strategy: Strategy::OneByOne,
        env: vec![
            ("CONTROLLER_KEY", made("controller-key", "Data")),
            ("SLUGBUILDER_18_IMAGE_ID", made("slugbuilder-image", "ID")),
            ("SLUGRUNNER_18_IMAGE_ID", made("slugrunner-image", "ID")),
            ("BUILD_CA_BUNDLE", Value::Env("BUILD_CA_BUNDLE")),
        ],
        env_prefix: Some("BUILD_ENV_"),
        processes: vec![process(
            "app",
            ONE_OR_TWO,
            ProcessType {
                args: args(&["/bin/flynn-component", "gitreceive"]),
                ports: vec![served(80, "gitreceive")],
                resources,
                service: "gitreceive".to_owned(),
                ..ProcessType::default()
            },
        )],
        ..app("gitreceive", "gitreceive")
    }
}
