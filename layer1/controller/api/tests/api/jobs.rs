//! What a host is asked to run, from a release: the rules of spec/controller.md §11 and §13.

use controller_api::{App, Artifact, BuildJobError, JobBuilder, NewJob, Release};

const A: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdea";
const R: &str = "0f0e0d0c-1111-4222-8333-abcdefabcdeb";
const J: &str = "host1-0f0e0d0c-1111-4222-8333-abcdefabcdec";

fn app(meta: &str) -> App {
    serde_json::from_str(&format!(r#"{{"id":"{A}","name":"demo","meta":{meta}}}"#)).unwrap()
}

fn release() -> Release {
    let json = format!(
        r#"{{"id":"{R}","app_id":"{A}","env":{{"A":"release","B":"release","FLYNN_JOB_ID":"x"}},"processes":{{
            "web":{{"args":["/bin/web"],"env":{{"B":"process"}},"ports":[{{"port":0,"proto":"tcp","service":{{"name":"demo-web","create":true}}}}],
                "service":"demo-web","resurrect":true,"linux_capabilities":["CAP_NET_ADMIN"],"profiles":["kvm"],"mounts":[{{"location":"/m","target":"/h"}}]}},
            "plain":{{}},"odd":{{"profiles":["x"]}}}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn image(layer: &str, entrypoints: &str) -> Artifact {
    let json = format!(
        r#"{{"type":"flynn","uri":"http://h/{layer}","meta":{{"from":"{layer}"}},"layer_url_template":"http://b/{{id}}.squashfs",
            "manifest":{{"_type":"t","entrypoints":{entrypoints},"rootfs":[{{"layers":[
              {{"id":"{layer}","type":"application/vnd.flynn.image.squashfs.v1","length":7,"hashes":{{"sha512_256":"{layer}"}}}},
              {{"id":"odd","type":"other"}}]}}]}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn images() -> Vec<Artifact> {
    vec![
        image(
            "aa",
            r#"{"_default":{"args":["/base"],"env":{"A":"image","C":"image"},"cwd":"/base","uid":5000}}"#,
        ),
        image("bb", r#"{"web":{"args":["/entry"],"env":{"C":"web image"},"cwd":"/web"}}"#),
    ]
}

#[test]
fn a_formation_job_is_what_the_release_says() {
    let (app, release, images) = (app(r#"{"flynn-system-app":"true"}"#), release(), images());
    let builder = JobBuilder::new(&app, &release, &images).unwrap();
    let job = builder.formation_job(J.parse().unwrap(), "web", Vec::new()).unwrap();
    let want = format!(
        r#"{{"id":"{J}","mountspecs":[{{"type":"squashfs","id":"aa","url":"http://b/aa.squashfs","size":7,"hashes":{{"sha512_256":"aa"}},"meta":{{"from":"aa"}}}},{{"type":"squashfs","id":"bb","url":"http://b/bb.squashfs","size":7,"hashes":{{"sha512_256":"bb"}},"meta":{{"from":"bb"}}}}],"metadata":{{"flynn-controller.app":"{A}","flynn-controller.app_name":"demo","flynn-controller.formation":"true","flynn-controller.release":"{R}","flynn-controller.type":"web","flynn-system-app":"true"}},"resources":{{"cpu":{{"request":1000,"limit":1000}},"max_fd":{{"request":10000,"limit":10000}},"memory":{{"request":1073741824,"limit":1073741824}},"temp_disk":{{"request":104857600,"limit":104857600}}}},"partition":"system","config":{{"args":["/bin/web"],"env":{{"A":"release","B":"process","C":"web image","FLYNN_APP_ID":"{A}","FLYNN_APP_NAME":"demo","FLYNN_JOB_ID":"{J}","FLYNN_PROCESS_TYPE":"web","FLYNN_RELEASE_ID":"{R}"}},"mounts":[{{"location":"/m","target":"/h"}}],"ports":[{{"proto":"tcp","service":{{"name":"demo-web","create":true}}}}],"working_dir":"/web","linux_capabilities":["CAP_NET_ADMIN"]}},"resurrect":true,"profiles":["kvm"]}}"#
    );
    assert_eq!(serde_json::to_string(&job).unwrap(), want);
    let plain = builder.formation_job(J.parse().unwrap(), "plain", Vec::new()).unwrap();
    assert_eq!((plain.config.args, plain.config.uid), (vec!["/base".to_owned()], Some(5000)));
}

#[test]
fn a_one_off_job_may_override_everything() {
    let (app, release, images) = (app("{}"), release(), images());
    let builder = JobBuilder::new(&app, &release, &images).unwrap();
    let request = NewJob {
        release_env: true,
        env: [("FLYNN_JOB_ID".to_owned(), "mine".to_owned())].into(),
        meta: [("flynn-controller.app".to_owned(), "mine".to_owned())].into(),
        mounts_from: "web".to_owned(),
        ..NewJob::default()
    };
    let job = builder.one_off_job(J.parse().unwrap(), &request, true).unwrap();
    assert_eq!(job.config.args, ["/base"]);
    assert_eq!(job.config.env["FLYNN_JOB_ID"], "mine");
    assert_eq!(job.config.env["A"], "release");
    assert!(!job.config.env.contains_key("FLYNN_APP_NAME"));
    assert_eq!(job.metadata["flynn-controller.app"], A);
    assert!(!job.metadata.contains_key("flynn-controller.formation"));
    assert!(job.config.stdin && job.partition.is_empty());
    assert_eq!(job.config.mounts.len(), 1);
}

#[test]
fn what_cannot_run_says_why() {
    let (app, release, images) = (app("{}"), release(), images());
    let error = JobBuilder::new(&app, &release, &[]).unwrap_err();
    assert!(matches!(error, BuildJobError::NoArtifacts));
    let builder = JobBuilder::new(&app, &release, &images).unwrap();
    let job = |kind: &str| builder.formation_job(J.parse().unwrap(), kind, Vec::new());
    assert!(matches!(job("nope"), Err(BuildJobError::UnknownType { .. })));
    assert!(matches!(job("odd"), Err(BuildJobError::UnknownProfile(name)) if name == "x"));
    let bare = [Artifact::default()];
    let builder = JobBuilder::new(&app, &release, &bare).unwrap();
    let error = builder.formation_job(J.parse().unwrap(), "web", Vec::new()).unwrap_err();
    assert!(matches!(error, BuildJobError::NoLayers { .. }));
}
