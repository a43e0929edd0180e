//! From nothing to a cluster of hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bootstrap::Options;
use host_api::{JobStatus, META_PREDECESSOR};
use kit_ids::JobId;
use kit_tasks::Tasks;
use serde_json::{Value, json};

use crate::fake_host::FakeHost;
use crate::run;

/// Replaces what differs from run to run.
fn redacted(mut value: Value) -> Value {
    let text = value.to_string();
    let mut words: Vec<String> = Vec::new();
    for word in text.split('"') {
        let tail = word.get(word.len().saturating_sub(36)..).unwrap_or_default();
        words.push(match word.strip_suffix(tail) {
            Some(head) if kit_ids::is_uuid(tail) => format!("{head}UUID"),
            Some(_) | None => word.to_owned(),
        });
    }
    value = serde_json::from_str(&words.join("\"")).unwrap();
    value
}

#[tokio::test]
async fn one_host_gets_discovery_and_a_network() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let (outcome, lines) = run(host.options(dir.path())).await.succeed();
    assert_eq!(
        lines,
        [
            "start check online-hosts",
            "done check online-hosts",
            "start require-env require-env",
            "done require-env require-env",
            "start resource-check resource-check",
            "done resource-check resource-check",
            "start run-app discoverd",
            "done run-app discoverd",
            "start run-app flannel",
            "done run-app flannel",
            "start wait-hosts wait-hosts",
            "done wait-hosts wait-hosts",
        ]
    );
    assert_eq!(outcome.host_ips, ["127.0.0.1"]);
    assert_eq!(outcome.cluster_add, None, "there is no controller to add yet");
    let discoverd = serde_json::to_value(&host.jobs_of("discoverd")[0]).unwrap();
    assert_eq!(
        redacted(discoverd),
        json!({
            "id": "host1-UUID",
            "mountspecs": [{
                "type": "squashfs", "id": "c0de", "url": "http://127.0.0.1:1113/host/layers/c0de",
                "size": 4096, "hashes": { "sha512_256": "c0de" },
                "meta": { "flynn.system-image": "true" },
            }],
            "metadata": {
                "flynn-controller.app": "UUID", "flynn-controller.app_name": "discoverd",
                "flynn-controller.formation": "true", "flynn-controller.release": "UUID",
                "flynn-controller.type": "app", "flynn-system-app": "true",
                "flynn-system-critical": "true",
            },
            "resources": {
                "cpu": { "request": 1000, "limit": 1000 },
                "max_fd": { "request": 10000, "limit": 10000 },
                "memory": { "request": 1_073_741_824, "limit": 1_073_741_824 },
                "temp_disk": { "request": 104_857_600, "limit": 104_857_600 },
            },
            "partition": "system",
            "config": {
                "args": ["/bin/flynn-core", "discoverd"],
                "env": {
                    "CLUSTER_DOMAIN": "flynn.localhost", "DISCOVERD": "none",
                    "DISCOVERD_PEERS": "127.0.0.1:1111,", "DISCOVERD_WAIT_NET_DNS": "true", "FLYNN_APP_ID": "UUID",
                    "FLYNN_APP_NAME": "discoverd", "FLYNN_JOB_ID": "host1-UUID",
                    "FLYNN_PROCESS_TYPE": "app", "FLYNN_RELEASE_ID": "UUID",
                },
                "volumes": [{ "target": "/data", "volume": "UUID", "writeable": true, "delete_on_stop": false }],
                "ports": [{ "port": 1111, "proto": "tcp" }, { "port": 53, "proto": "tcp" }],
                "host_network": true,
                "linux_capabilities": ["CAP_NET_BIND_SERVICE"],
            },
            "resurrect": true,
        })
    );
    let flannel = &host.jobs_of("flannel")[0];
    assert_eq!(flannel.config.linux_capabilities, Some(vec!["CAP_NET_ADMIN".to_owned()]));
    assert_eq!(flannel.config.args, ["/bin/flynn-core", "overlay"]);
    let volume = host.lock().volumes[&flannel.config.volumes[0].volume].meta.clone();
    assert_eq!(volume["flynn-controller.path"], "/data");
    tasks.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_second_run_starts_nothing_again() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    run(host.options(dir.path())).await.succeed();
    // Its own jobs have the ports now.
    host.lock().taken_ports = vec![1111, 5002];
    let (_, lines) = run(host.options(dir.path())).await.succeed();
    assert!(lines.contains(&"done run-app discoverd done before".to_owned()), "{lines:#?}");
    assert_eq!(host.lock().added.len(), 2);
}

#[tokio::test]
async fn a_job_that_did_not_start_is_told_and_tried_anew() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    host.lock().fail_with = Some("host: no space left");
    let first = run(host.options(dir.path())).await;
    assert!(
        first.failure().ends_with("of discoverd app did not start: host: no space left"),
        "{:?}",
        first.lines
    );
    run(host.options(dir.path())).await.succeed();
    let jobs = host.jobs_of("discoverd");
    assert_eq!(jobs.len(), 2);
    assert_ne!(jobs[0].id, jobs[1].id);
    for same in ["flynn-controller.app", "flynn-controller.release"] {
        assert_eq!(jobs[0].meta(same), jobs[1].meta(same));
    }
    assert_eq!(jobs[0].config.volumes, jobs[1].config.volumes, "the data are not left behind");
    assert_eq!(jobs[1].config.env["FLYNN_JOB_ID"], jobs[1].id.as_str());
}

#[tokio::test]
async fn an_interrupted_run_finds_its_jobs_again() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    host.lock().broken = 1;
    let first = run(host.options(dir.path())).await;
    assert!(first.failure().contains("adding job"), "{:?}", first.lines);
    let volumes = host.lock().volumes.clone();
    run(host.options(dir.path())).await.succeed();
    assert!(
        first.failure().contains(host.jobs_of("discoverd")[0].id.as_str()),
        "the planned id is used"
    );
    assert_eq!(host.jobs_of("discoverd").len(), 1);
    assert!(volumes.keys().all(|id| host.lock().volumes.contains_key(id)));
    assert_eq!(host.lock().volumes.len(), 2);

    // The run ended after its job was restarted by the host, before it could say that it was done.
    let path = dir.path().join("bootstrap.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["steps"]["flannel"]["done"] = json!(false);
    std::fs::write(&path, record.to_string()).unwrap();
    let mut predecessor = host.jobs_of("flannel").remove(0);
    let ended = predecessor.id.clone();
    predecessor.id = JobId::random(&"host1".parse().unwrap());
    predecessor.metadata.insert(META_PREDECESSOR.to_owned(), ended.to_string());
    {
        let mut inner = host.lock();
        let mut successor = inner.jobs[&ended].clone();
        inner.jobs.get_mut(&ended).unwrap().status = JobStatus::Crashed;
        successor.job = predecessor.clone();
        inner.jobs.insert(predecessor.id, successor);
    }
    run(host.options(dir.path())).await.succeed();
    assert_eq!(host.jobs_of("flannel").len(), 1, "the successor counts");
}

#[tokio::test]
async fn a_busy_host_is_asked_again() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    host.lock().busy = 3;
    run(host.options(dir.path())).await.succeed();
    assert_eq!(host.lock().added.len(), 2);
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let options = || host.options(dir.path());
    let fail = async |options: Options| run(options).await.failure().to_owned();

    let env = Default::default();
    assert_eq!(
        fail(Options { env, ..options() }).await,
        "error require-env require-env Missing required environment variable(s): CLUSTER_DOMAIN"
    );
    host.lock().taken_ports = vec![80, 443];
    assert_eq!(
        fail(options()).await,
        "error resource-check resource-check conflicts detected!\n  127.0.0.1: tcp:80 tcp:443"
    );
    host.lock().taken_ports.clear();
    let core = host.lock().images.remove("core").unwrap();
    assert_eq!(
        fail(options()).await,
        "error run-app discoverd no host has image \"core\": import it with `flynn-host image import core DIR`"
    );
    host.lock().images.insert("core".to_owned(), core);
    host.lock().without_network = true;
    let short = Options { timeout: Duration::from_millis(1), ..options() };
    assert_eq!(
        fail(short).await,
        "error wait-hosts wait-hosts timed out after 0 s waiting for 1 hosts to join the cluster: host host1 has no subnet"
    );
    let absent = Options {
        local_host_url: "http://127.0.0.1:9".to_owned(),
        timeout: Duration::from_millis(1),
        ..options()
    };
    let line = fail(absent).await;
    let expected = "error check online-hosts timed out waiting for 1 hosts to come online (currently 0 online)\n  http://127.0.0.1:9: ";
    assert!(line.starts_with(expected), "{line}");
}

#[tokio::test]
async fn chosen_steps_are_run_alone() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let host = FakeHost::alone(&tasks).await;
    let steps = vec!["discoverd".to_owned()];
    run(Options { steps, ..host.options(dir.path()) }).await.succeed();
    assert_eq!((host.jobs_of("discoverd").len(), host.jobs_of("flannel").len()), (1, 0));
}

/// Three hosts with one port on different loopback addresses.
async fn three_hosts(tasks: &Tasks) -> Vec<FakeHost> {
    loop {
        let first = FakeHost::alone(tasks).await;
        let mut hosts = vec![first];
        for number in 2..=3_u8 {
            let addr = SocketAddr::from(([127, 0, 0, number], hosts[0].port()));
            // Somebody else may have the port there: then another one is tried.
            let Ok(host) = FakeHost::start(tasks, &format!("host{number}"), addr).await else {
                break;
            };
            hosts.push(host);
        }
        if hosts.len() == 3 {
            return hosts;
        }
    }
}

#[tokio::test]
async fn three_hosts_get_the_same_jobs_and_know_each_other() {
    let (tasks, dir) = (Tasks::root("test"), tempfile::tempdir().unwrap());
    let hosts = three_hosts(&tasks).await;
    let options = Options {
        peer_ips: [3, 1, 2].map(|n| Ipv4Addr::new(127, 0, 0, n)).to_vec(),
        host_port: hosts[0].port(),
        ..hosts[0].options(dir.path())
    };
    let (outcome, _) = run(options).await.succeed();
    assert_eq!(outcome.host_ips, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let mut apps = std::collections::BTreeSet::new();
    for host in &hosts {
        let jobs = host.jobs_of("discoverd");
        assert_eq!((jobs.len(), host.jobs_of("flannel").len()), (1, 1));
        let peers = &jobs[0].config.env["DISCOVERD_PEERS"];
        assert_eq!(peers, "127.0.0.1:1111,127.0.0.2:1111,127.0.0.3:1111,");
        apps.insert(jobs[0].meta("flynn-controller.app").unwrap().to_owned());
    }
    assert_eq!(apps.len(), 1, "one app on all hosts");
}
