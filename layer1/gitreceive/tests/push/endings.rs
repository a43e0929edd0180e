//! Pushes that do not come to their end: the person goes away, the platform goes away, a store fails.

use rustix::process::{Pid, Signal, kill_process_group};
use std::time::Duration;

use crate::controller::until;
use crate::world::{World, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_interrupts_a_push_ends_its_build() {
    let world = World::start().await;
    let work = world.repository("work").await;
    world.controller.hold.send_replace(true);
    let mut pushing = work.command(&["push", &world.url(), "master"]);
    let mut git = pushing.process_group(0).spawn().unwrap();
    let build = || world.controller.state().builds.first().cloned();
    until("the build has its source", || build().is_some_and(|build| build.is_fed)).await;
    let group = Pid::from_raw(i32::try_from(git.id().unwrap()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    assert!(!git.wait().await.unwrap().success());
    until("the build is asked to end", || build().unwrap().signals == [15]).await;
    until("nothing is left", || world.working_copies() == 0).await;
    assert!(world.controller.state().releases.is_empty());
    assert!(world.blobs.names().is_empty());

    world.controller.hold.send_replace(false);
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_its_builds() {
    let world = World::start().await;
    let work = world.repository("work").await;
    world.controller.hold.send_replace(true);
    let url = world.url();
    let stop = async {
        let is_fed = || world.controller.state().builds.first().is_some_and(|build| build.is_fed);
        until("the build has its source", is_fed).await;
        world.server.stop(Duration::from_secs(30)).await;
    };
    let ((accepted, said), ()) = tokio::join!(work.push(&url, &["master"]), stop);
    assert!(!accepted, "{said}");
    assert_eq!(world.controller.state().builds[0].signals, [15]);
    assert!(world.controller.state().releases.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_to_the_build_is_no_success() {
    let world = World::start().await;
    let work = world.repository("work").await;
    // A host's answer that is no exit status.
    world.controller.state().plan.exit = u32::MAX;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(!accepted && said.contains("ERROR: Build failed: exit status"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_without_a_blob_store_is_refused_before_anything_is_sent() {
    let world = World::start().await;
    let work = world.repository("work").await;
    world.blobs.fail(true);
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(!accepted && said.contains("500"), "{said}");
    assert!(world.controller.state().builds.is_empty());
    world.blobs.fail(false);
    assert!(work.push(&world.url(), &["master"]).await.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_but_not_stored_can_be_pushed_again() {
    let world = World::start().await;
    let work = world.repository("work").await;
    world.controller.hold.send_replace(true);
    let url = world.url();
    let lose = async {
        let is_fed = || world.controller.state().builds.first().is_some_and(|build| build.is_fed);
        until("the build has its source", is_fed).await;
        world.blobs.fail(true);
        world.controller.hold.send_replace(false);
    };
    let ((accepted, said), ()) = tokio::join!(work.push(&url, &["master"]), lose);
    assert!(accepted, "deployed: {said}");
    world.blobs.fail(false);
    // The person's git believes it was stored; the next change brings all that is missing.
    work.commit("two").await;
    let (accepted, said) = work.push(&url, &["master"]).await;
    assert!(accepted, "{said}");
    work.git(&["clone", "--quiet", &url, "../clone"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_too_large_is_refused() {
    let world =
        World::start_with(&[], |config| config.limits.body = kit_units::Bytes::kib(64)).await;
    let work = world.repository("work").await;
    assert!(work.push(&world.url(), &["master"]).await.0);
    std::fs::write(work.dir.join("noise"), noise(1, 400_000)).unwrap();
    work.commit("large").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(!accepted, "{said}");
    assert_eq!(world.controller.state().builds.len(), 1);
    world.stop().await;
}
