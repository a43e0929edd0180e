//! The worked examples of the wire, byte for byte: reading one and writing it again gives the same text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use discoverd_api::{
    DiscoverdConfig, Event, Instance, LastIndex, LeaderType, RaftLeader, ServiceConfig, ServiceMeta,
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn same_after_reading<T: DeserializeOwned + Serialize>(text: &str) {
    let value: T = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), text);
}

#[test]
fn instances() {
    same_after_reading::<Vec<Instance>>(
        r#"[{"id":"e15086afcc9b0dda9e8d8cb223ff8556","addr":"10.0.0.1:80","proto":"tcp","meta":{"FLYNN_JOB_ID":"host1-a"},"index":9},{"id":"4b999c520bee976ad3d9ebab81b64c3d","addr":"10.0.0.2:80","proto":"tcp","meta":{"k":"v"},"index":10}]"#,
    );
    same_after_reading::<Instance>(
        r#"{"id":"c553f2f30d723dea10556c32e6ab7c0e","addr":"10.0.0.2:5432","proto":"tcp","index":44}"#,
    );
}

#[test]
fn events() {
    for text in [
        r#"{"service":"web","kind":"up","instance":{"id":"e15086afcc9b0dda9e8d8cb223ff8556","addr":"10.0.0.1:80","proto":"tcp","meta":{"FLYNN_JOB_ID":"host1-a"},"index":17}}"#,
        r#"{"service":"web","kind":"current"}"#,
        r#"{"service":"web","kind":"leader"}"#,
        r#"{"service":"db","kind":"service_meta","service_meta":{"data":{"generation":1},"index":47}}"#,
        r#"{"service":"db","kind":"down","instance":{"id":"c553f2f30d723dea10556c32e6ab7c0e","addr":"10.0.0.2:5432","proto":"tcp","index":44}}"#,
    ] {
        same_after_reading::<Event>(text);
    }
}

#[test]
fn metadata() {
    same_after_reading::<ServiceMeta>(
        r#"{"data":{"a":2},"leader_id":"4b999c520bee976ad3d9ebab81b64c3d","index":16}"#,
    );
    same_after_reading::<ServiceMeta>(r#"{"data":null,"index":18}"#);
    let empty: ServiceMeta = serde_json::from_str("{}").unwrap();
    assert_eq!(serde_json::to_string(&empty).unwrap(), r#"{"data":null,"index":0}"#);
}

#[test]
fn service_configurations() {
    same_after_reading::<ServiceConfig>(r#"{"leader_type":"oldest"}"#);
    same_after_reading::<ServiceConfig>(r#"{"leader_type":"manual"}"#);
    for text in
        ["{}", r#"{"leader_type":""}"#, r#"{"leader_type":"newest"}"#, r#"{"leader_type":null}"#]
    {
        let config: ServiceConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.leader_type, LeaderType::Oldest, "{text}");
    }
    assert!(serde_json::from_str::<ServiceConfig>(r#"{"leader_type":1}"#).is_err());
}

#[test]
fn membership() {
    same_after_reading::<RaftLeader>(r#"{"host":"192.0.2.1:1111"}"#);
    same_after_reading::<LastIndex>(r#"{"last_index":24}"#);
    same_after_reading::<DiscoverdConfig>(
        r#"{"job_id":"host1-j","url":"192.0.2.1:1111,192.0.2.2:1111,192.0.2.3:1111","dns":"192.0.2.1:53"}"#,
    );
}
