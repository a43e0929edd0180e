//! What a push does and says when all is well, and when the app or its build is not.

use serde_json::json;

use crate::controller::{RUNNER, until};
use crate::world::{World, shown, url};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_builds_releases_and_scales() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let commit = work.git(&["rev-parse", "HEAD"]).await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    let lines = shown(&said);
    let own = lines.iter().position(|line| line == "-----> Building demo...").unwrap();
    assert_eq!(
        lines[own..own + 8],
        [
            "-----> Building demo...",
            "-----> Static app detected",
            "       indented",
            "-----> Creating release...",
            "=====> Scaling initial release to web=1",
            "-----> Waiting for initial web job to start...",
            "=====> Initial web job started",
            "=====> Application deployed",
        ]
    );
    assert!(said.contains("* [new branch]      master -> master"), "{said}");

    let state = world.controller.snapshot();
    let build = &state.builds[0];
    let slug = build.request["env"]["SLUG_IMAGE_ID"].clone();
    let release = &state.releases[0];
    assert_eq!(release["artifacts"], json!([RUNNER, slug]));
    assert_eq!(
        release["meta"],
        json!({"git": "true", "git.commit": commit, "slugrunner.stack": "heroku-18"})
    );
    assert_eq!(
        release["processes"],
        json!({"web": {
            "args": ["/runner/init", "start", "web"],
            "ports": [{"port": 8080, "proto": "tcp", "service":
                {"name": "demo-web", "create": true, "check": {"type": "tcp"}}}],
            "service": "demo-web",
        }})
    );
    assert_eq!(world.blobs.names(), [format!("/repos/{}.tar", crate::controller::APP)]);
    until("the working copies are gone", || world.working_copies() == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_job_gets_what_it_needs_and_no_key() {
    let more = [
        ("SLUGBUILDER_DEFAULT_MEMORY_LIMIT", "2GB"),
        ("BUILD_ENV_PIP_INDEX_URL", "http://pip"),
        ("SSH_CLIENT_HOSTS", ""),
    ];
    let world = World::start_with(&more, |_| {}).await;
    world.controller.state().releases.push(json!({
        "id": "00000000-0000-4000-8000-00000000aaaa",
        "env": {"FOO": "bar", "BUILDPACK_URL": "http://pack"}}));
    let work = world.repository("work").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    let state = world.controller.snapshot();
    let request = &state.builds[0].request;
    assert_eq!(request["args"], json!(["/builder/build.sh"]));
    assert_eq!(request["partition"], "background");
    assert_eq!(request["disable_log"], true);
    assert_eq!(request["release"], "00000000-0000-4000-8000-00000000aaaa");
    assert_eq!(
        request["resources"]["memory"],
        json!({"request": 1_u64 << 31, "limit": 1_u64 << 31})
    );
    let env = &request["env"];
    for (name, value) in [
        ("STACK", "heroku-24"),
        ("BUILDPACK_URL", "http://pack"),
        ("BUILD_ENV_PIP_INDEX_URL", "http://pip"),
    ] {
        assert_eq!(env[name], value);
    }
    let keys = kit_auth::Keys::parse(crate::world::KEY);
    let token = env["CONTROLLER_KEY"].as_str().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let scope = keys.verify(token, kit_clock::Wall::from_epoch(now)).unwrap();
    assert_eq!(scope.artifact.as_str(), env["SLUG_IMAGE_ID"]);
    assert!(!request.to_string().contains(crate::world::KEY));
    let files = state.builds[0].files();
    let cookie = b".ENV_DIR_bdca46b87df0537eaefe79bb632d37709ff1df18/FOO".to_vec();
    assert_eq!(files[&cookie].bytes, b"bar");
    assert_eq!(files[&cookie].mode, 0o644);
    assert_eq!(state.releases[1]["env"]["FOO"], "bar");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_keeps_what_the_release_had_and_sends_only_what_is_new() {
    let world = World::start().await;
    let work = world.repository("work").await;
    assert!(work.push(&world.url(), &["master"]).await.0);
    world.controller.state().releases[0]["processes"]["web"]["ports"][0]["port"] = json!(9090);
    work.write("a", "b");
    let commit = work.commit("two").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    assert!(!said.contains("Scaling initial"), "{said}");
    assert!(said.contains("=====> Application deployed"), "{said}");
    let state = world.controller.snapshot();
    assert_eq!(state.releases[1]["processes"]["web"]["ports"][0]["port"], 9090);
    assert_eq!(state.releases[1]["meta"]["git.commit"], json!(commit));
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted && said.contains("Everything up-to-date"), "{said}");

    // What was pushed can be fetched.
    work.git(&["clone", "--quiet", &world.url(), "../clone"]).await;
    assert_eq!(std::fs::read_to_string(world.dir.path().join("clone/a")).unwrap(), "b");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_ends_during_a_push_does_not_make_the_app_one_that_never_ran() {
    let world = World::start().await;
    let work = world.repository("work").await;
    assert!(work.push(&world.url(), &["master"]).await.0);
    work.commit("two").await;
    world.controller.hold.send_replace(true);
    let url = world.url();
    let (pushed, ()) = tokio::join!(work.push(&url, &["master"]), async {
        until("it builds", || world.controller.state().builds.len() == 2).await;
        {
            let mut state = world.controller.state();
            state.formations = [(RUNNER.to_owned(), 2)].into();
            state.releases.push(json!({"id": RUNNER}));
        }
        world.controller.hold.send_replace(false);
    });
    assert!(pushed.0 && !pushed.1.contains("Scaling initial"), "{}", pushed.1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_master_and_main_are_deployed_and_others_go_along() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let (accepted, said) = work.push(&world.url(), &["master:foo"]).await;
    assert!(!accepted);
    let text = "remote: The push must include a change to the master branch to be deployed.";
    assert!(said.contains(text) && said.contains("pre-receive hook declined"), "{said}");
    assert!(world.controller.state().builds.is_empty());
    assert!(world.blobs.names().is_empty());

    assert!(work.push(&world.url(), &["master", "master:foo"]).await.0);
    let refs = work.git(&["ls-remote", &world.url()]).await;
    assert!(refs.contains("refs/heads/foo") && refs.contains("refs/heads/master"), "{refs}");
    work.commit("two").await;
    let (accepted, said) = work.push(&world.url(), &["master:main"]).await;
    assert!(accepted, "{said}");
    assert_eq!(world.controller.state().releases.len(), 2);
    let (accepted, said) = work.push(&world.url(), &[":master"]).await;
    assert!(!accepted && said.contains("cannot be deleted"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_rejects_the_push_and_a_later_one_works() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let plan = |change: &dyn Fn(&mut crate::controller::Plan)| {
        let mut plan = crate::controller::Plan::default();
        change(&mut plan);
        world.controller.state().plan = plan;
    };
    let rejected = async |want: &str| {
        let (accepted, said) = work.push(&world.url(), &["master"]).await;
        assert!(!accepted && said.contains(want), "{want}: {said}");
        assert!(said.contains("pre-receive hook declined"), "{said}");
        assert_eq!(world.blobs.puts(), 0);
    };
    plan(&|plan| plan.exit = 1);
    rejected("remote: ERROR: Build failed: exit status 1").await;
    plan(&|plan| plan.deploy_error = Some("it did not work"));
    rejected("ERROR: Error deploying app release: it did not work").await;
    plan(&|plan| plan.first_job = "down");
    rejected("ERROR: Initial web job failed to start").await;
    assert_eq!(world.controller.state().deleted_formations, 1);
    let env = json!({"FLYNN_STACK": "x"});
    world.controller.state().releases.push(json!({"id": RUNNER, "env": env}));
    rejected("ERROR: Unknown FLYNN_STACK: \"x\"").await;
    let env = json!({"FLYNN_STACK": "cedar-14"});
    world.controller.state().releases.push(json!({"id": RUNNER, "env": env}));
    rejected("WARNING: The cedar-14 stack is deprecated").await;

    world.controller.state().releases.clear();
    plan(&|_| {});
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_to_one_app_take_turns_and_a_stale_one_is_refused_before_its_build() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let other = world.repository("other").await;
    other.commit("of the other").await;
    world.controller.hold.send_replace(true);
    let url_of_both = world.url();
    let (first, second) = tokio::join!(work.push(&url_of_both, &["master"]), async {
        until("the first builds", || !world.controller.state().builds.is_empty()).await;
        let second = other.push(&url_of_both, &["master"]);
        let release = async {
            // The second has asked for refs, and waits for its turn or will find it taken.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            world.controller.hold.send_replace(false);
        };
        tokio::join!(second, release).0
    });
    assert!(first.0, "{}", first.1);
    assert!(!second.0, "{}", second.1);
    assert_eq!(world.controller.state().builds.len(), 1, "{}", second.1);
    let refs = work.git(&["ls-remote", &world.url(), "refs/heads/master"]).await;
    assert!(refs.starts_with(&work.git(&["rev-parse", "HEAD"]).await), "{refs}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_lose_no_ref_of_either_push() {
    let world = World::start().await;
    let another = world.another_server().await;
    let work = world.repository("work").await;
    let other = world.repository("other").await;
    other.commit("of the other").await;
    world.controller.hold.send_replace(true);
    let url_of_first = world.url();
    let first = work.push(&url_of_first, &["master", "master:x"]);
    let url_of_other = url(&another);
    let second = async {
        until("the first builds", || world.controller.state().builds.len() == 1).await;
        let second = other.push(&url_of_other, &["master:main", "master:y"]);
        let release = async {
            until("both build", || world.controller.state().builds.len() == 2).await;
            world.controller.hold.send_replace(false);
        };
        tokio::join!(second, release).0
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.0 && second.0, "{} {}", first.1, second.1);
    let refs = work.git(&["ls-remote", &world.url()]).await;
    for name in ["master", "x", "main", "y"] {
        assert!(refs.contains(&format!("refs/heads/{name}")), "{name}: {refs}");
    }
    // All objects are there.
    work.git(&["clone", "--quiet", "--mirror", &world.url(), "../clone"]).await;
    world.stop().await;
}
