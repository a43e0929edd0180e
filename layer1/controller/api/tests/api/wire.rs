//! Objects of the worked examples keep their bytes; what clients leave out, or send as null or as an
//! empty text, reads as nothing.

use std::collections::BTreeMap;

use controller_api::{
    App, Artifact, Deployment, Event, ExpandedFormation, Formation, Job, JobState, NewJob,
    Provider, Release, ReleaseDeletionEvent, Resource, ResourceReq, ScaleRequest, Strategy,
    Timestamp, Volume,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const A: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdea";
const R: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdeb";

/// `A`, `R` and `T` stand for an app's id, another id and a time.
fn keeps<T: Serialize + DeserializeOwned>(json: &str) {
    let json =
        json.replace("<A>", A).replace("<R>", R).replace("<t>", "2026-11-21T04:25:57.89571Z");
    let read: T = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

#[test]
fn documented_objects_keep_their_bytes() {
    keeps::<App>(
        r#"{"id":"<A>","name":"demo","meta":{"gc.max_inactive_slug_releases":"10"},"strategy":"all-at-once","deploy_timeout":120,"created_at":"<t>","updated_at":"<t>"}"#,
    );
    keeps::<Artifact>(
        r#"{"id":"<R>","type":"flynn","uri":"http://H/man.json","meta":{"blobstore":"true"},"manifest":{"_type":"x","rootfs":[{"layers":[]}]},"hashes":{"sha512":"aa"},"size":302,"layer_url_template":"http://blobstore.discoverd/layers/{id}.squashfs","created_at":"<t>"}"#,
    );
    keeps::<Release>(
        r#"{"id":"<R>","app_id":"<A>","artifacts":["<R>"],"env":{"K":"v"},"meta":{"git":"true"},"processes":{"web":{"args":["/bin/web"],"ports":[{"port":0,"proto":"tcp"},{"port":80,"proto":"tcp","service":{"name":"s","create":true,"check":{"type":"http","interval":2000000000,"path":"/","status":403}}}],"volumes":[{"path":"/data","delete_on_stop":true}],"omni":true,"service":"demo-web","resurrect":true,"resources":{"cpu":{"request":null,"limit":1000}},"cmd":["c"],"entrypoint":["e"]}},"created_at":"<t>","artifact":"<R>"}"#,
    );
    keeps::<Formation>(
        r#"{"app":"<A>","release":"<R>","processes":{"web":1,"worker":0},"tags":{"web":{}},"created_at":"<t>","updated_at":"<t>"}"#,
    );
    keeps::<ExpandedFormation>(r#"{"updated_at":"0001-01-01T00:00:00Z"}"#);
    for rest in [
        r#""state":"pending","old_processes":{"web":2},"new_processes":{"web":3},"old_tags":{"web":{}},"new_tags":null,"created_at":"<t>","updated_at":null}"#,
        r#""state":"complete","created_at":null,"updated_at":"<t>"}"#,
    ] {
        keeps::<ScaleRequest>(&format!(r#"{{"id":"<R>","app":"<A>","release":"<R>",{rest}"#));
    }
    keeps::<Job>(
        r#"{"id":"host0-<R>","uuid":"<R>","host_id":"host0","app":"<A>","release":"<R>","type":"web","state":"down","meta":{"m":"1"},"exit_status":1,"host_error":"boom","run_at":"2026-01-02T03:04:05Z","created_at":"<t>","updated_at":"<t>"}"#,
    );
    keeps::<NewJob>(
        r#"{"release":"<R>","release_env":true,"args":["echo"],"tty":true,"tty_columns":80,"tty_lines":24,"partition":"background"}"#,
    );
    keeps::<Deployment>(
        r#"{"id":"<R>","app":"<A>","new_release":"<R>","strategy":"all-at-once","status":"complete","deploy_timeout":120,"created_at":"<t>","finished_at":"<t>"}"#,
    );
    keeps::<Provider>(
        r#"{"id":"<R>","url":"http://H/res","name":"pg","created_at":"<t>","updated_at":"<t>"}"#,
    );
    keeps::<ResourceReq>(r#"{"apps":["demo"],"config":{"b":1,"a":2}}"#);
    keeps::<Resource>(
        r#"{"id":"<R>","provider":"<R>","external_id":"/databases/1","env":{"URL":"x"},"apps":["<A>"],"created_at":"<t>"}"#,
    );
    keeps::<Event>(
        r#"{"id":71,"app":"<A>","object_type":"deployment","object_id":"<R>","data":{"b":1,"a":2},"created_at":"<t>"}"#,
    );
    keeps::<Volume>(
        r#"{"id":"<R>","host_id":"","type":"","state":"","updated_at":"<t>","decommissioned_at":"<t>"}"#,
    );
    keeps::<ReleaseDeletionEvent>(
        r#"{"release_deletion":{"app":"","release":"<R>","remaining_apps":null,"deleted_files":null},"error":""}"#,
    );
}

#[test]
fn nothing_may_be_written_in_three_ways() {
    let empty = ScaleRequest::default();
    for json in [
        "{}",
        r#"{"id":"","app":"","release":"","state":"","old_processes":null,"created_at":null}"#,
        r#"{"id":null,"app":null,"unknown":{"a":1}}"#,
    ] {
        assert_eq!(serde_json::from_str::<ScaleRequest>(json).unwrap(), empty, "{json}");
    }
    let release: Release =
        serde_json::from_str(r#"{"env":{"A":null},"processes":null,"artifacts":null}"#).unwrap();
    assert_eq!(release.env["A"], "");
    for bad in
        [r#"{"id":"x"}"#, r#"{"strategy":"x"}"#, r#"{"name":1}"#, r#"{"deploy_timeout":1.5}"#]
    {
        assert!(serde_json::from_str::<App>(bad).is_err(), "{bad}");
    }
}

#[test]
fn closed_lists_have_one_text_per_value() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(*strategy));
        assert_eq!(serde_json::to_string(strategy).unwrap(), format!("\"{strategy}\""));
    }
    assert!("x".parse::<JobState>().is_err());
}

fn texts() -> impl proptest::strategy::Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(".*", ".*", 0..4)
}

fn counts() -> impl proptest::strategy::Strategy<Value = BTreeMap<String, u32>> {
    proptest::collection::btree_map("[a-z]*", any::<u32>(), 0..4)
}

/// What is written reads back the same, whatever people put into it.
fn round_trip<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        name in ".*", meta in texts(), timeout in any::<i32>(), micros in 0..4_000_000_000_000_000_i64,
        processes in counts(), wanted in proptest::option::of(proptest::option::of(counts())),
        args in proptest::collection::vec(".*", 0..3), exit in proptest::option::of(any::<i32>()),
    ) {
        let at = chrono::DateTime::from_timestamp_micros(micros).map(Timestamp);
        round_trip(&App {
            name, meta: meta.clone(), deploy_timeout: timeout, created_at: at, id: A.parse().ok(),
            ..App::default()
        });
        round_trip(&ScaleRequest {
            old_processes: processes.clone(), new_processes: wanted, updated_at: at,
            ..ScaleRequest::default()
        });
        round_trip(&Formation { processes: Some(processes), ..Formation::default() });
        round_trip(&Job { args: args.clone(), exit_status: exit, meta, run_at: at, ..Job::default() });
        round_trip(&NewJob { args, ..NewJob::default() });
    }
}
