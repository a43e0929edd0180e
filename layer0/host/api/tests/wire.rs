//! The worked examples of the wire, byte for byte: what is written there reads and writes back the same.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Debug;

use host_api::{
    ActiveJob, AttachFlags, AttachReq, Event, EventKind, HostStatus, Job, JobStatus, NetworkConfig,
    Refusal, ResourceCheck, ResourceKind, Sink, VolumeInfo,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn same<T: Serialize + DeserializeOwned + Debug>(wire: &str) -> T {
    let value: T = serde_json::from_str(wire).unwrap();
    let written = kit_http::encode_json(&value).unwrap();
    assert_eq!(String::from_utf8_lossy(&written), wire);
    value
}

#[test]
fn a_job_added_and_never_started() {
    let job: ActiveJob = same(
        r#"{"job":{"id":"host1-j1","mountspecs":[{"type":"squashfs","id":"l1","url":"http://x/y","size":1,"hashes":{"sha256":"aa"}}],"config":{"args":["true"],"env":{"FLYNN_APP_ID":"app1"},"volumes":[{"target":"/data","volume":"v1","writeable":true,"delete_on_stop":false}]}},"host_id":"host1","created_at":"2026-11-21T04:31:15.840129328Z","started_at":"0001-01-01T00:00:00Z","ended_at":"0001-01-01T00:00:00Z"}"#,
    );
    assert_eq!(job.status, JobStatus::Starting);
    assert!(job.started_at.is_zero());
}

#[test]
fn a_running_job() {
    let job: ActiveJob = same(
        r#"{"job":{"id":"host1-u","mountspecs":[{"type":"squashfs","id":"ab","url":"http://blobstore.discoverd/x","size":123,"hashes":{"sha512_256":"ab"}}],"metadata":{"flynn-controller.app":"a","flynn-controller.type":"web"},"resources":{"cpu":{"request":1000,"limit":1000},"memory":{"request":1073741824,"limit":1073741824}},"partition":"user","config":{"args":["/runner/init","start","web"],"env":{"PORT":"8080","PORT_0":"8080"},"ports":[{"port":8080,"proto":"tcp","service":{"name":"app-web","create":true,"check":{"type":"tcp"}}}]}},"host_id":"host1","internal_ip":"100.100.5.2","pid":4711,"status":1,"created_at":"2021-01-01T00:00:00Z","started_at":"2021-01-01T00:00:01Z","ended_at":"0001-01-01T00:00:00Z"}"#,
    );
    assert_eq!(job.job.resources.get(ResourceKind::Cpu).limit, Some(1000));
    assert_eq!(job.job.resources.get(ResourceKind::MaxFd).limit, None);
}

#[test]
fn a_stopped_job_and_its_event() {
    let event: Event = same(
        r#"{"event":"stop","job_id":"host1-j1","job":{"job":{"id":"host1-j1","config":{}},"host_id":"host1","force_stop":true,"status":2,"created_at":"2026-11-21T04:31:15.840129328Z","started_at":"0001-01-01T00:00:00Z","ended_at":"2026-11-21T04:31:15.914425023Z","exit_status":0}}"#,
    );
    assert_eq!(event.event, EventKind::Stop);
    assert!(event.job.unwrap().status.has_ended());
}

#[test]
fn host_status_before_and_after_it_was_configured() {
    let early: HostStatus = same(
        r#"{"id":"host1","tags":{"a":"b","c":"true"},"pid":2418,"url":"http://192.0.2.1:1113","version":"dev","flags":["--id","host1"]}"#,
    );
    assert_eq!(early.network, None);
    let late: HostStatus = same(
        r#"{"id":"host1","tags":{"a":"b"},"pid":1,"url":"http://192.0.2.10:1113","discoverd":{"job_id":"j","url":"192.0.2.10:1111,192.0.2.11:1111","dns":"100.100.5.1:53"},"network":{"job_id":"j","subnet":"100.100.5.1/24","mtu":1450,"resolvers":["8.8.8.8"]},"version":"v2021","flags":null}"#,
    );
    assert_eq!(late.network.unwrap().mtu, 1450);
    let network: NetworkConfig = same(
        r#"{"job_id":"j","subnet":"100.100.5.1/24","mtu":1450,"overlay":{"network":"100.100.0.0/16","backend":"vxlan","vni":1,"port":8472,"hosts":["192.0.2.1","192.0.2.2"]}}"#,
    );
    assert_eq!(network.overlay.unwrap().hosts.len(), 2);
}

#[test]
fn small_bodies() {
    same::<ResourceCheck>(r#"{"ports":[{"port":1113,"proto":"tcp"},{"port":5999,"proto":"udp"}]}"#);
    let refusal: Refusal =
        same(r#"{"resource":"memory","requested":5,"available":3,"generation":9}"#);
    assert_eq!(refusal.resource, ResourceKind::Memory);
    same::<VolumeInfo>(r#"{"id":"v1","type":"data","created_at":"2021-01-01T00:00:00Z"}"#);
    same::<Sink>(r#"{"id":"s","kind":"syslog","config":{"url":"syslog://x"},"host_managed":true}"#);
    let attach: AttachReq = same(r#"{"job_id":"h-u","flags":23}"#);
    assert!(attach.flags.has(AttachFlags::STDIN) && !attach.flags.has(AttachFlags::LOGS));
}

#[test]
fn null_and_absence_are_the_same() {
    let empty: Job = serde_json::from_str(r#"{"id":"h-u"}"#).unwrap();
    let nulls: Job = serde_json::from_str(
        r#"{"id":"h-u","mountspecs":null,"metadata":null,"resources":null,"config":{"args":null,"env":null,"ports":[{"port":null,"service":{"check":null}}],"linux_capabilities":null},"profiles":null}"#,
    )
    .unwrap();
    assert_eq!(empty, Job { config: empty.config.clone(), ..nulls });
    let network: NetworkConfig = serde_json::from_str(r#"{"resolvers":null}"#).unwrap();
    assert_eq!(network, NetworkConfig::default());
    for bad in [r#"{"id":"h"}"#, r#"{}"#, r#"{"id":"h-u","config":{"args":1}}"#] {
        assert!(serde_json::from_str::<Job>(bad).is_err(), "{bad}");
    }
}
