//! From a job of the wire to the description its supervisor gets. Pure but for the types: nothing is made
//! or looked up here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use host_api::{Job, Port};
use host_container::protocol::{
    BindMount, CgroupSpec, CheckKind, ConfigMount, DEFAULT_SPOOL_BYTES, Device, DeviceKind,
    HealthCheck, JobSpec, Lowers, NetworkSpec, Rlimits, ServiceSpec, UserNamespace,
};
use host_job::Limits;
use host_network::Partition;
use kit_ids::JobId;
use kit_units::Bytes;

use super::prepare::parse_partition;
use crate::config::Config;

/// Capabilities of a job in a user namespace that lists none; more are for partition `system` only.
const KEPT_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];
/// What instances of a job's services say about it.
const INSTANCE_META: [&str; 5] =
    ["FLYNN_APP_ID", "FLYNN_APP_NAME", "FLYNN_RELEASE_ID", "FLYNN_PROCESS_TYPE", "FLYNN_JOB_ID"];
const HOSTNAME_LENGTH: usize = 64;
const FIRST_FREE_PORT: u16 = 5000;

/// Whose ids a job's processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A range of their own.
    Mapped,
    /// The host's: only in partition `system`.
    Host,
}

/// Why a job cannot be run as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadJob {
    #[error("host: invalid job partition {0:?}")]
    Partition(String),
    #[error("host: {0} need partition \"system\"")]
    NotSystem(&'static str),
    #[error("host: profiles are not supported")]
    Profile,
    #[error("unknown port proto {0:?}")]
    Proto(String),
    #[error("unsupported check type")]
    Check,
    #[error("host: invalid empty mount target")]
    MountTarget,
    #[error("host: mounts of the host's file system need partition \"system\"")]
    HostMount,
    #[error("host: a job needs a program: args is empty")]
    NoArgs,
}

/// What was made for a job.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) job_dir: PathBuf,
    pub(super) layers: Vec<PathBuf>,
    pub(super) scratch_dir: PathBuf,
    pub(super) user_namespace: Option<UserNamespace>,
    pub(super) volumes: Vec<BindMount>,
    pub(super) bind_files: Vec<BindMount>,
    pub(super) network: NetworkSpec,
    pub(super) limits: Limits,
    pub(super) discoverd: Option<String>,
    /// Where a job that registers itself does so.
    pub(super) registration: Option<String>,
}

/// The job's partition.
pub(super) fn partition_of(job: &Job) -> Result<Partition, BadJob> {
    parse_partition(&job.partition).ok_or_else(|| BadJob::Partition(job.partition.clone()))
}

/// Checks all that can be checked before anything is made, and says whose ids the job gets.
pub(super) fn place_of(job: &Job) -> Result<Place, BadJob> {
    let partition = partition_of(job)?;
    let config = &job.config;
    if config.args.is_empty() {
        return Err(BadJob::NoArgs);
    }
    if !job.profiles.is_empty() {
        return Err(BadJob::Profile);
    }
    check_ports(&config.ports)?;
    if config.mounts.iter().any(|mount| mount.device.is_empty() && mount.target.is_empty()) {
        return Err(BadJob::MountTarget);
    }
    let wants = [
        ("host network jobs", config.host_network),
        ("jobs that see the host's processes", config.host_pid_namespace),
        (
            "jobs with devices",
            !config.allowed_devices.is_empty() || !config.auto_created_devices.is_empty(),
        ),
        ("jobs with writeable cgroups", config.writeable_cgroups),
        ("jobs with more capabilities", has_more_capabilities(job)),
    ];
    let special = wants.into_iter().find(|(_, wanted)| *wanted).map(|(what, _)| what);
    match (special, partition) {
        (Some(_), Partition::System) => Ok(Place::Host),
        (Some(what), Partition::User | Partition::Background) => Err(BadJob::NotSystem(what)),
        (None, Partition::User | Partition::Background) if !config.mounts.is_empty() => {
            Err(BadJob::HostMount)
        }
        (None, Partition::User | Partition::Background | Partition::System) => Ok(Place::Mapped),
    }
}

/// Fills in what the wire shows from then on: ports, their variables, the address, the partition.
pub(super) fn fill_in(job: &mut Job, ip: Option<Ipv4Addr>) {
    if job.partition.is_empty() {
        job.partition = Partition::User.as_str().to_owned();
    }
    for (index, port) in job.config.ports.iter_mut().enumerate() {
        if port.port == 0 {
            port.port = FIRST_FREE_PORT.saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
        }
        if port.proto.is_empty() {
            port.proto = "tcp".to_owned();
        }
        let number = port.port.to_string();
        if index == 0 {
            job.config.env.insert("PORT".to_owned(), number.clone());
        }
        job.config.env.insert(format!("PORT_{index}"), number);
    }
    if let Some(ip) = ip {
        job.config.env.insert("EXTERNAL_IP".to_owned(), ip.to_string());
    }
}

/// The job's name inside its container.
pub(super) fn hostname(job: &JobId) -> String {
    job.unique_part().chars().take(HOSTNAME_LENGTH).collect()
}

/// The supervisor's description of a filled-in job.
pub(super) fn describe(config: &Config, job: &Job, made: Made) -> Result<JobSpec, BadJob> {
    let partition = partition_of(job)?;
    let told = discoverd_of(partition, made.discoverd.as_deref(), made.registration.as_deref());
    let env = environment(config, job, told);
    let services = services(&job.config.ports, env.get("EXTERNAL_IP"))?;
    let wire = &job.config;
    let limits = made.limits;
    let instance_meta = INSTANCE_META.iter().filter_map(|key| {
        let value = env.get(*key)?;
        Some(((*key).to_owned(), value.clone()))
    });
    Ok(JobSpec {
        job_id: job.id.clone(),
        job_dir: made.job_dir,
        layers: made.layers,
        scratch_dir: made.scratch_dir,
        user_namespace: made.user_namespace,
        uid: wire.uid.unwrap_or(0),
        gid: wire.gid.unwrap_or(0),
        args: wire.args.clone(),
        instance_meta: instance_meta.collect(),
        env: env.into_iter().collect(),
        working_dir: wire.working_dir.clone(),
        hostname: hostname(&job.id),
        tty: wire.tty,
        open_stdin: wire.stdin,
        resume_at_once: false,
        mounts: wire.mounts.iter().map(mount).collect(),
        volumes: made.volumes,
        bind_files: made.bind_files,
        network: made.network,
        cgroup: CgroupSpec {
            prefix: config.cgroup_prefix.clone(),
            partition: partition.as_str().to_owned(),
            name: job.id.to_string(),
            memory: limits.memory,
            swap: Bytes(0),
            cpu_shares: host_job::shares(limits.cpu),
            cpu_quota: None,
            pids: limits.processes,
        },
        rlimits: Rlimits { max_fd: Some(limits.files), max_procs: None },
        capabilities: capabilities(job),
        devices: devices(job),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        writeable_cgroups: wire.writeable_cgroups,
        host_pid_namespace: wire.host_pid_namespace,
        services,
        discoverd: made.discoverd,
        spool_bytes: DEFAULT_SPOOL_BYTES,
        lowers: Lowers::Auto,
    })
}

/// Lowest precedence first: what every job has, what the daemon knows, the job's own, what nobody may
/// change.
fn environment(config: &Config, job: &Job, discoverd: Option<&str>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        env.insert(key.to_owned(), value.to_owned());
    };
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("TERM", "xterm");
    set("HOME", "/");
    set("EXTERNAL_IP", &config.external_ip.to_string());
    set("LISTEN_IP", "");
    if let Some(urls) = discoverd {
        set("DISCOVERD", urls);
    }
    for (key, value) in &job.config.env {
        set(key, value);
    }
    set("HOSTNAME", &hostname(&job.id));
    set("container", "");
    env
}

/// The platform's jobs ask discoverd; those of people at most the host's proxy.
fn discoverd_of<'a>(
    partition: Partition,
    discoverd: Option<&'a str>,
    registration: Option<&'a str>,
) -> Option<&'a str> {
    match partition {
        Partition::System => discoverd,
        Partition::User | Partition::Background => registration,
    }
}

fn check_ports(ports: &[Port]) -> Result<(), BadJob> {
    for port in ports {
        if !matches!(port.proto.as_str(), "" | "tcp" | "udp") {
            return Err(BadJob::Proto(port.proto.clone()));
        }
        if let Some(check) = port.service.as_ref().and_then(|service| service.check.as_ref()) {
            check_kind(&check.kind)?;
        }
    }
    Ok(())
}

fn check_kind(kind: &str) -> Result<CheckKind, BadJob> {
    match kind {
        "" | "tcp" => Ok(CheckKind::Tcp),
        "http" => Ok(CheckKind::Http),
        "https" => Ok(CheckKind::Https),
        _ => Err(BadJob::Check),
    }
}

fn services(ports: &[Port], ip: Option<&String>) -> Result<Vec<ServiceSpec>, BadJob> {
    let ip = ip.map(String::as_str).unwrap_or_default();
    let mut services = Vec::new();
    for port in ports {
        let Some(service) = port.service.as_ref().filter(|service| !service.name.is_empty()) else {
            continue;
        };
        services.push(ServiceSpec {
            name: service.name.clone(),
            create: service.create,
            proto: port.proto.clone(),
            addr: format!("{ip}:{}", port.port),
            check: service.check.as_ref().map(health_check).transpose()?,
        });
    }
    Ok(services)
}

fn health_check(wire: &host_api::HealthCheck) -> Result<HealthCheck, BadJob> {
    let mut check = HealthCheck::new(check_kind(&wire.kind)?);
    if wire.interval.0 > 0 {
        check.interval = wire.interval.duration();
    }
    if wire.threshold > 0 {
        check.threshold = wire.threshold;
    }
    if wire.start_timeout.0 > 0 {
        check.start_timeout = wire.start_timeout.duration();
    }
    if !wire.path.is_empty() {
        check.path.clone_from(&wire.path);
    }
    if wire.status > 0 {
        check.expect_status = wire.status;
    }
    check.kill_down = wire.kill_down;
    check.host.clone_from(&wire.host);
    check.expect_text.clone_from(&wire.expect_text);
    Ok(check)
}

fn has_more_capabilities(job: &Job) -> bool {
    let listed = job.config.linux_capabilities.iter().flatten();
    listed.map(|name| full_name(name)).any(|name| !KEPT_CAPABILITIES.contains(&name.as_str()))
}

/// The wire has both `NET_ADMIN` and `CAP_NET_ADMIN`.
fn full_name(name: &str) -> String {
    if name.starts_with("CAP_") { name.to_owned() } else { format!("CAP_{name}") }
}

/// What the job lists; a job of the host's own ids that lists nothing has none.
fn capabilities(job: &Job) -> Vec<String> {
    match &job.config.linux_capabilities {
        Some(listed) => listed.iter().map(|name| full_name(name)).collect(),
        None => match place_of(job) {
            Ok(Place::Host) => Vec::new(),
            Ok(Place::Mapped) | Err(_) => KEPT_CAPABILITIES.map(str::to_owned).to_vec(),
        },
    }
}

fn mount(wire: &host_api::Mount) -> ConfigMount {
    ConfigMount {
        location: wire.location.clone(),
        target: wire.target.clone(),
        writeable: wire.writeable,
        device: wire.device.clone(),
        data: wire.data.clone(),
        flags: wire.flags,
    }
}

/// Nodes are made for the automatic ones only.
fn devices(job: &Job) -> Vec<Device> {
    let allowed = job.config.allowed_devices.iter().filter(|device| device.allow).map(|device| {
        let mut device = self::device(device);
        device.path = String::new();
        device
    });
    allowed.chain(job.config.auto_created_devices.iter().map(device)).collect()
}

fn device(wire: &host_api::Device) -> Device {
    Device {
        path: wire.path.clone(),
        kind: if wire.kind == u32::from(b'b') { DeviceKind::Block } else { DeviceKind::Char },
        major: u32::try_from(wire.major).ok(),
        minor: u32::try_from(wire.minor).ok(),
        access: wire.permissions.clone(),
        file_mode: wire.file_mode,
        uid: wire.uid,
        gid: wire.gid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_api::{ContainerConfig, Service};

    fn job(config: ContainerConfig, partition: &str) -> Job {
        let mut job = Job::new("host1-web.1".parse().unwrap());
        job.config = ContainerConfig { args: vec!["true".into()], ..config };
        job.partition = partition.to_owned();
        job
    }

    #[test]
    fn what_leaves_the_user_namespace_is_for_the_platform() {
        let host_network = || ContainerConfig { host_network: true, ..Default::default() };
        let caps = |names: &[&str]| ContainerConfig {
            linux_capabilities: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..Default::default()
        };
        for (config, partition, want) in [
            (ContainerConfig::default(), "", Ok(Place::Mapped)),
            (ContainerConfig::default(), "system", Ok(Place::Mapped)),
            (host_network(), "system", Ok(Place::Host)),
            (host_network(), "", Err(BadJob::NotSystem("host network jobs"))),
            (caps(&["NET_BIND_SERVICE", "CAP_CHOWN"]), "user", Ok(Place::Mapped)),
            (
                caps(&["CAP_NET_ADMIN"]),
                "user",
                Err(BadJob::NotSystem("jobs with more capabilities")),
            ),
            (caps(&["CAP_NET_ADMIN"]), "system", Ok(Place::Host)),
            (ContainerConfig::default(), "odd", Err(BadJob::Partition("odd".into()))),
        ] {
            assert_eq!(place_of(&job(config, partition)), want, "{partition}");
        }
        assert_eq!(
            place_of(&job(ContainerConfig::default(), "nonexistent")).unwrap_err().to_string(),
            "host: invalid job partition \"nonexistent\""
        );
    }

    #[test]
    fn ports_are_numbered_and_shown_in_the_environment() {
        let service = Service { name: "app-web".into(), create: true, check: None };
        let ports = vec![
            Port { port: 0, proto: "tcp".into(), service: Some(service) },
            Port { port: 53, proto: "udp".into(), service: None },
        ];
        let env = BTreeMap::from([("PORT".into(), "1".into()), ("HOME".into(), "/app".into())]);
        let mut job = job(ContainerConfig { ports, env, ..Default::default() }, "");
        fill_in(&mut job, Some(Ipv4Addr::new(100, 100, 1, 2)));
        assert_eq!(job.partition, "user");
        for (key, want) in [("PORT", "5000"), ("PORT_1", "53"), ("EXTERNAL_IP", "100.100.1.2")] {
            assert_eq!(job.config.env[key], want);
        }
        let config = Config::new("host1".parse().unwrap(), Ipv4Addr::LOCALHOST, "/data".into());
        let env = environment(&config, &job, discoverd_of(Partition::User, Some("http://x"), None));
        assert_eq!((env["HOME"].as_str(), env["HOSTNAME"].as_str()), ("/app", "web.1"));
        assert!(!env.contains_key("DISCOVERD"), "not for jobs of people");
        let services = services(&job.config.ports, env.get("EXTERNAL_IP")).unwrap();
        assert_eq!(services[0].addr, "100.100.1.2:5000");
    }
}
