//! The worker on a real PostgreSQL, with a stand-in of the scheduler: strategies, failures, dead
//! workers, releases that are not needed any more.

use std::time::Duration;

use controller::worker;
use controller_api::{
    DeploymentEvent, DeploymentStatus, Event, EventFilter, EventStream, EventType, EventsFrom, Job,
    JobState,
};
use kit_tasks::Tasks;

use crate::examples::{demo, release};
use crate::fake_scheduler::{FakeScheduler, Fate};
use crate::support::{DEADLINE, Server};

const PROBATION: Duration = Duration::from_millis(200);
/// Short, so that the work of a killed worker is soon another's.
const LEASE: Duration = Duration::from_secs(1);

fn config(server: &Server) -> worker::Config {
    worker::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        database: server.database.settings().clone(),
        discoverd: None,
        key: "key".to_owned(),
        lease: LEASE,
        probation: PROBATION,
        unreleased: Duration::from_secs(24 * 3600),
        collection: Duration::from_millis(100),
        version: "dev".to_owned(),
    }
}

/// An app whose release runs, with everything that deploys another one.
struct World {
    server: Server,
    scheduler: FakeScheduler,
    tasks: Tasks,
    app: String,
    old: String,
}

impl World {
    /// The app's settings are the body of its update; its web processes are so many.
    async fn start(settings: &str, web: u32) -> Self {
        let world = Self::start_without_worker(settings, web).await;
        worker::start(config(&world.server), &world.tasks).await.unwrap();
        world
    }

    async fn start_without_worker(settings: &str, web: u32) -> Self {
        let server = Server::start().await;
        let tasks = Tasks::root("world");
        let (app, old) = demo(&server).await;
        assert_eq!(server.post("/apps/demo", settings).await.status, 200);
        assert_eq!(server.post("/apps/demo/deploy", &id_of(&old)).await.status, 200);
        let scheduler = FakeScheduler::start(server.api(), "demo", &tasks);
        let path = format!("/apps/demo/formations/{old}");
        let body = format!(r#"{{"processes":{{"web":{web},"worker":0}}}}"#);
        assert_eq!(server.put(&path, &body).await.status, 200);
        let world = Self { server, scheduler, tasks, app, old };
        world.wait_until_settled(&world.old).await;
        world
    }

    async fn wait_until_settled(&self, release: &str) {
        let path = format!("/apps/demo/formations/{release}?expand=true");
        let settled = async {
            while self.server.get(&path).await.json().get("pending_scale_request").is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.expect("settled in time");
    }

    async fn new_release(&self, types: &[&str]) -> String {
        release(&self.server, &self.app, types).await
    }

    async fn events(&self) -> EventStream {
        let filter = EventFilter::of_app("demo");
        self.server.api().stream_events(&filter, EventsFrom::Now).await.unwrap()
    }

    async fn deploy(&self, release: &str) -> String {
        let made = self.server.post("/apps/demo/deploy", &id_of(release)).await;
        assert_eq!(made.field("status"), "pending", "{made:?}");
        made.field("id")
    }

    async fn current(&self) -> String {
        self.server.get("/apps/demo/release").await.field("id")
    }

    async fn counts(&self, release: &str) -> serde_json::Value {
        self.server.get(&format!("/apps/demo/formations/{release}")).await.json()["processes"]
            .clone()
    }

    async fn stop(self) {
        self.tasks.shutdown(DEADLINE).await;
        self.server.stop().await;
    }
}

fn id_of(release: &str) -> String {
    format!(r#"{{"id":"{release}"}}"#)
}

/// All events up to the deployment's last one.
async fn until_over(events: &mut EventStream) -> (Vec<Event>, DeploymentEvent) {
    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.next_event()).await.unwrap();
        let event = event.unwrap().unwrap();
        seen.push(event.clone());
        if event.object_type != Some(EventType::Deployment) {
            continue;
        }
        let told: DeploymentEvent = event.data_as().unwrap();
        match told.status {
            Some(DeploymentStatus::Pending) => {}
            Some(DeploymentStatus::Complete | DeploymentStatus::Failed) => return (seen, told),
            status @ (Some(DeploymentStatus::Running) | None) => panic!("{status:?}"),
        }
    }
}

/// `+` for each job of the new release that came up, `-` for each of the old one that went down.
fn ups_and_downs(events: &[Event], new: &str) -> String {
    let jobs = events.iter().filter(|event| event.object_type == Some(EventType::Job));
    let sign = |job: Job| {
        let is_new = job.release.as_ref().is_some_and(|id| id.as_str() == new);
        match (is_new, job.state) {
            (true, Some(JobState::Up)) => Some('+'),
            (false, Some(JobState::Down)) => Some('-'),
            _ => None,
        }
    };
    jobs.filter_map(|event| sign(event.data_as().unwrap())).collect()
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kinds = events.iter().filter_map(|event| event.object_type).map(EventType::as_str);
    // What was made before the deployment may still be told.
    kinds.filter(|kind| !["job", "release", "artifact"].contains(kind)).collect()
}

#[tokio::test]
async fn each_strategy_replaces_the_jobs_in_its_own_order() {
    for (settings, web, order) in [
        (r#"{"strategy":"one-by-one"}"#, 2, "+-+-"),
        (r#"{"strategy":"one-down-one-up"}"#, 2, "-+-+"),
        (r#"{"strategy":"in-batches","meta":{"flynn-deploy-batch-size":"2"}}"#, 4, "++--++--"),
    ] {
        let world = World::start(settings, web).await;
        let new = world.new_release(&["web", "worker"]).await;
        let mut events = world.events().await;
        world.deploy(&new).await;
        let (seen, end) = until_over(&mut events).await;
        assert_eq!((end.status, end.error.as_str()), (Some(DeploymentStatus::Complete), ""));
        assert_eq!(ups_and_downs(&seen, &new), order, "{settings}");
        assert_eq!(world.current().await, new);
        assert_eq!(world.counts(&new).await["web"], web);
        assert_eq!(world.counts(&world.old).await["web"], 0);
        world.stop().await;
    }
}

#[tokio::test]
async fn all_at_once_tells_its_story_in_order() {
    let world = World::start("{}", 3).await;
    let new = world.new_release(&["web", "worker"]).await;
    let mut events = world.events().await;
    let deployment = world.deploy(&new).await;
    let second = world.server.post("/apps/demo/deploy", &id_of(&new)).await;
    let refusal = r#"400 {"code":"validation_error","message":"Cannot create deploy, there is already one in progress for this app.","retry":false}"#;
    assert_eq!(second.line(), refusal);
    let (seen, _) = until_over(&mut events).await;
    let told = kinds(&seen);
    let begin = ["deployment", "scale_request", "scale", "scale_request"];
    assert_eq!(told[..4], begin, "{told:?}");
    assert_eq!(told[4..7], ["scale_request", "scale_request_cancelation", "scale"], "{told:?}");
    let at = |kind: &str| told.iter().rposition(|told| *told == kind).unwrap();
    assert!(at("app_release") < at("deployment"), "{told:?}");
    assert_eq!(ups_and_downs(&seen, &new).find('-').unwrap_or(3), 3);
    let deployed = world.server.get(&format!("/deployments/{deployment}")).await;
    assert_eq!(deployed.field("status"), "complete");
    assert_eq!(deployed.json()["processes"], serde_json::json!({ "web": 3, "worker": 0 }));
    assert!(!deployed.field("finished_at").is_empty());
    let collected = async {
        loop {
            let event = events.next_event().await.unwrap().unwrap();
            if event.object_type == Some(EventType::AppGarbageCollection) {
                return event.data;
            }
        }
    };
    let collected = tokio::time::timeout(DEADLINE, collected).await.unwrap();
    let want = serde_json::json!({
        "error": "",
        "app_garbage_collection": { "app_id": world.app, "deleted_releases": null },
    });
    assert_eq!(collected, want);
    // What is deployed already is deployed again, and nothing is touched.
    world.deploy(&new).await;
    let (seen, end) = until_over(&mut events).await;
    assert_eq!(end.status, Some(DeploymentStatus::Complete));
    // The first deployment's old jobs may still be going down.
    assert!(!ups_and_downs(&seen, &new).contains('+'), "{seen:?}");
    assert_eq!(world.counts(&new).await, serde_json::json!({ "web": 3, "worker": 0 }));
    world.stop().await;
}

#[tokio::test]
async fn a_release_that_fails_leaves_the_old_one_as_it_was_and_says_why() {
    let world = World::start(r#"{"deploy_timeout":3}"#, 2).await;
    let types = ["web", "worker"];
    for (strategy, fate, why) in [
        ("all-at-once", Fate::Crash, "web job failed to start: it exited with status 3"),
        ("one-by-one", Fate::Crash, "web job failed to start: it exited with status 3"),
        ("all-at-once", Fate::CrashLater, "web job did not stay up: it exited with status 4"),
        (
            "one-down-one-up",
            Fate::Hang,
            "timed out waiting for scale to complete (waited 3 seconds): 0 of 1 web up: \
             the program has not started yet",
        ),
    ] {
        let settings = format!(r#"{{"strategy":"{strategy}"}}"#);
        assert_eq!(world.server.post("/apps/demo", &settings).await.status, 200);
        let new = world.new_release(&types).await;
        world.scheduler.set_fate(&new, fate);
        let mut events = world.events().await;
        let deployment = world.deploy(&new).await;
        let (_, end) = until_over(&mut events).await;
        assert_eq!((end.status, end.error.as_str()), (Some(DeploymentStatus::Failed), why));
        let row = world.server.get(&format!("/deployments/{deployment}")).await;
        assert_eq!(row.field("status"), "failed");
        assert_eq!(world.current().await, world.old);
        let wanted = serde_json::json!({ "web": 2, "worker": 0 });
        assert_eq!(world.counts(&world.old).await, wanted, "{fate:?}");
        let formation = format!("/apps/demo/formations/{new}");
        assert_eq!(world.server.get(&formation).await.status, 404, "{fate:?}");
    }
    // Nothing of it is in the way of the next one.
    let good = world.new_release(&["web"]).await;
    let mut events = world.events().await;
    world.deploy(&good).await;
    let (_, end) = until_over(&mut events).await;
    assert_eq!(end.status, Some(DeploymentStatus::Complete), "{end:?}");
    assert_eq!(world.current().await, good);
    world.stop().await;
}

/// A worker in a runtime of its own, which ends with everything in it and without a word.
struct Mortal(Option<tokio::runtime::Runtime>);

impl Mortal {
    fn start(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (config, tasks) = (config(server), Tasks::root("mortal"));
        let started = runtime.handle().clone();
        std::thread::spawn(move || started.block_on(worker::start(config, &tasks)).map(drop))
            .join()
            .unwrap()
            .unwrap();
        Self(Some(runtime))
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn whenever_a_worker_dies_another_one_goes_on() {
    for (strategy, fate, status) in [
        ("one-by-one", Fate::Work, DeploymentStatus::Complete),
        ("all-at-once", Fate::Work, DeploymentStatus::Complete),
        ("one-by-one", Fate::CrashLater, DeploymentStatus::Failed),
    ] {
        let settings = format!(r#"{{"strategy":"{strategy}","deploy_timeout":60}}"#);
        let world = World::start_without_worker(&settings, 4).await;
        let new = world.new_release(&["web", "worker"]).await;
        world.scheduler.set_fate(&new, fate);
        let mut events = world.events().await;
        world.deploy(&new).await;
        // Each worker lives until it has done something, and dies in the middle of what comes next.
        let deaths = async {
            for _ in 0..4 {
                let mut worker = Mortal::start(&world.server);
                let scaled = async {
                    let filter = EventFilter::of_app("demo").types(&[EventType::Scale]);
                    let api = world.server.api();
                    let mut scales = api.stream_events(&filter, EventsFrom::Now).await.unwrap();
                    scales.next_event().await
                };
                drop(tokio::time::timeout(3 * LEASE, scaled).await);
                worker.kill();
            }
        };
        deaths.await;
        worker::start(config(&world.server), &world.tasks).await.unwrap();
        let (seen, end) = until_over(&mut events).await;
        assert_eq!(end.status, Some(status), "{end:?}");
        if status == DeploymentStatus::Complete {
            let order = ups_and_downs(&seen, &new);
            assert_eq!(order.matches('+').count(), 4, "{order}");
            assert_eq!(world.current().await, new);
        } else {
            assert_eq!(world.current().await, world.old);
            let wanted = serde_json::json!({ "web": 4, "worker": 0 });
            assert_eq!(world.counts(&world.old).await, wanted);
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn releases_go_with_the_images_that_are_theirs_alone() {
    let world = World::start("{}", 0).await;
    let (server, old) = (&world.server, &world.old);
    let unused = world.new_release(&["web"]).await;
    let refused = server.delete(&format!("/apps/demo/releases/{old}")).await;
    assert_eq!(
        refused.line(),
        r#"400 {"code":"validation_error","message":"cannot delete current app release","retry":false}"#
    );
    let mut events = world.events().await;
    let deleted = server.delete(&format!("/apps/demo/releases/{unused}")).await;
    assert_eq!(deleted.line(), "200 ");
    let event = tokio::time::timeout(DEADLINE, events.next_event()).await.unwrap();
    let want = serde_json::json!({
        "error": "",
        "release_deletion": {
            "app": "", "release": unused, "remaining_apps": null, "deleted_files": null,
        },
    });
    assert_eq!(event.unwrap().unwrap().data, want);
    assert_eq!(server.get(&format!("/releases/{unused}")).await.status, 404);
    assert_eq!(server.get("/artifacts").await.json().as_array().unwrap().len(), 1);
    assert_eq!(server.delete(&format!("/apps/demo/releases/{unused}")).await.status, 404);

    // Another app runs the release: it only loses its formation here.
    let shared = world.new_release(&["web"]).await;
    server.post("/apps", r#"{"name":"other"}"#).await;
    let body = r#"{"processes":{"web":1}}"#;
    server.put(&format!("/apps/other/formations/{shared}"), body).await;
    let other = server.get("/apps/other").await.field("id");
    let mut events = world.events().await;
    server.delete(&format!("/apps/demo/releases/{shared}")).await;
    let event = tokio::time::timeout(DEADLINE, events.next_event()).await.unwrap();
    let data = event.unwrap().unwrap().data;
    assert_eq!(data["release_deletion"]["remaining_apps"], serde_json::json!([other]));
    assert_eq!(server.get(&format!("/releases/{shared}")).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn an_image_of_the_blob_store_without_a_release_goes_after_a_day() {
    let world = World::start_without_worker("{}", 0).await;
    let server = &world.server;
    let artifact = async |name: &str, blobstore: bool| {
        let body = serde_json::json!({
            "type": "flynn",
            "uri": format!("http://elsewhere.test/{name}"),
            "meta": {"blobstore": blobstore.to_string()},
            "manifest": {"_type": "application/vnd.flynn.image.manifest.v1+json", "rootfs": []},
        });
        let made = server.post("/artifacts", &body.to_string()).await;
        assert_eq!(made.status, 200, "{made:?}");
        made.field("id")
    };
    let (lost, foreign) = (artifact("lost", true).await, artifact("foreign", false).await);
    let released = artifact("released", true).await;
    let body = serde_json::json!({"app_id": world.app, "artifacts": [released]});
    assert_eq!(server.post("/releases", &body.to_string()).await.status, 200);
    server.sql("UPDATE artifacts SET created_at = now() - interval '25 hours'").await;
    let young = artifact("young", true).await;

    worker::start(config(server), &world.tasks).await.unwrap();
    let gone = async {
        while server.get(&format!("/artifacts/{lost}")).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("collected in time");
    for kept in [foreign, released, young] {
        assert_eq!(server.get(&format!("/artifacts/{kept}")).await.status, 200);
    }
    world.stop().await;
}
