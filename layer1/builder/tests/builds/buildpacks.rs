//! How buildpacks are chosen, fetched and run.

use std::fs;
use std::time::Duration;

use builder::Output;

use super::world::{Captured, World, tar, user};

const ENV_DIR: &str = ".ENV_DIR_bdca46b87df0537eaefe79bb632d37709ff1df18";
const TAKES_ALL: (&str, &str) = ("bin/detect", "echo Test");

#[tokio::test]
async fn ours_are_asked_in_order_and_the_first_that_takes_the_app_builds_it() {
    let mut world = World::new().await;
    let by_file = |file: &str, name: &str| format!("[ -f \"$1/{file}\" ] && echo {name}");
    let (first, second) = (by_file("one", "First"), by_file("two", "Second"));
    world.own_buildpack("10-first", &[("bin/detect", &first), ("bin/compile", "echo first")]);
    world.own_buildpack("20-second", &[("bin/detect", &second), ("bin/compile", "echo second")]);
    for (files, want) in [
        (vec!["one"], "-----> First app detected"),
        (vec!["two"], "-----> Second app detected"),
        (vec!["one", "two"], "-----> First app detected"),
    ] {
        let files: Vec<_> = files.into_iter().map(|name| (name, "")).collect();
        let done = world.build(&files).await.ok();
        assert!(done.out.starts_with(want), "{}", done.out);
    }
    let none = world.build(&[("three", "")]).await;
    assert_eq!(none.out, "-----> Unable to select a buildpack\n");
    let (text, code) = none.failure();
    assert!(text.contains("set BUILDPACK_URL"), "{text}");
    assert_eq!(code, 1);
    world.end().await;
}

#[tokio::test]
async fn a_buildpack_is_fetched_from_its_url() {
    let mut world = World::new().await;
    let url = world.git_buildpack("custom", &[TAKES_ALL, ("bin/compile", "echo from git")]);
    world.set("BUILDPACK_URL", &url);
    let done = world.build(&[("a", "")]).await.ok();
    assert!(
        done.out.starts_with(
            "-----> Fetching custom buildpack\n-----> Test app detected\n       from git\n"
        ),
        "{}",
        done.out
    );
    assert!(done.err.is_empty(), "{}", done.err);
    world.set("BUILDPACK_URL", &format!("{url}#master"));
    world.build(&[("a", "")]).await.ok();
    world.set("BUILDPACK_URL", &format!("{url}#no-such-branch"));
    let (text, code) = world.build(&[("a", "")]).await.failure();
    assert!(
        text.contains("cannot fetch the buildpack") && text.contains("no-such-branch"),
        "{text}"
    );
    assert_eq!(code, 1);
    let refuses = world.git_buildpack("no", &[("bin/detect", "exit 3"), ("bin/compile", "true")]);
    world.set("BUILDPACK_URL", &refuses);
    let (text, code) = world.build(&[("a", "")]).await.failure();
    assert!(text.contains("no does not recognize this app"), "{text}");
    assert_eq!(code, 3);
    world.set("BUILDPACK_URL", "ext::sh -c evil");
    assert!(world.build(&[("a", "")]).await.failure().0.contains("is no buildpack URL"));
    world.end().await;
}

#[tokio::test]
async fn a_failing_compile_ends_the_build_with_its_status() {
    let mut world = World::new().await;
    let compile = "echo out; echo '  raw error' >&2; exit 42";
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", compile)]);
    let done = world.build(&[("a", "")]).await;
    assert_eq!(done.failure(), ("bin/compile of test failed: it ended with status 42".into(), 42));
    assert_eq!(done.err, "  raw error\n");
    assert!(world.fakes.artifacts.lock().unwrap().is_empty());
    world.own_buildpack(
        "10-test",
        &[TAKES_ALL, ("bin/compile", "true"), ("bin/release", "echo '- no mapping'")],
    );
    let (text, _) = world.build(&[("a", "")]).await.failure();
    assert!(text.starts_with("bin/release of test printed something else than YAML"), "{text}");
    world.end().await;
}

#[tokio::test]
async fn buildpacks_see_the_apps_environment_and_nothing_of_the_job() {
    let mut world = World::new().await;
    world.set("BUILD_ENV_PIP_INDEX_URL", "http://mirror");
    world.set("SSH_CLIENT_KEY", "private key");
    let compile = "echo files: $(ls $3); cat $3/FOO; echo; env | sort >$1/env; stat -c %U:%a ~/.ssh/id_rsa 2>/dev/null";
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", compile)]);
    let (foo, odd, path) =
        (format!("{ENV_DIR}/FOO"), format!("{ENV_DIR}/B-D"), format!("{ENV_DIR}/X"));
    let source = [("a", "1"), (foo.as_str(), "bar"), (&odd, "no name"), (&path, "x")];
    let done = world.build(&source).await.ok();
    assert!(done.out.contains("       files: FOO X\n       bar\n"), "{}", done.out);
    let slug = world.newest_slug();
    assert!(!slug.keys().any(|name| name.contains("ENV_DIR")), "{:?}", slug.keys());
    let env = &slug["app/env"];
    for (name, is_there) in [
        ("PIP_INDEX_URL=http://mirror", true),
        ("STACK=heroku-24", true),
        ("CF_STACK=cflinuxfs3", true),
        ("REQUEST_ID=flynn-build", true),
        ("SOURCE_VERSION=0123456789012345678901234567890123456789", true),
        ("FOO=", false),
        ("CONTROLLER_KEY", false),
        ("SSH_CLIENT_KEY", false),
        ("BUILD_ENV_", false),
        ("SLUG_IMAGE_ID", false),
    ] {
        assert_eq!(env.contains(name), is_there, "{name} in {env}");
    }
    let without = world.build(&[("a", "1")]).await;
    assert!(without.err.contains("/FOO") && without.result.is_ok(), "{}", without.err);
    world.end().await;
}

#[tokio::test]
async fn the_cache_persists_between_builds() {
    let mut world = World::new().await;
    let compile = "if [ -f $2/a ]; then n=$(cat $2/a); echo cached: $n; echo $((n+1)) >$2/a; else echo 0 >$2/a; fi; mkdir -p $2/foo/bar";
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", compile)]);
    for want in [None, Some("cached: 0\n"), Some("cached: 1\n")] {
        let done = world.build(&[("a", "")]).await.ok();
        assert_eq!(done.out.contains("cached"), want.is_some(), "{}", done.out);
        assert!(done.out.contains(want.unwrap_or_default()), "{}", done.out);
    }
    let cache = world
        .fakes
        .blobs
        .lock()
        .unwrap()
        .iter_mut()
        .find(|(name, _)| name.ends_with("-cache.tgz"))
        .map(|(_, blob)| *blob = "rubbish".into());
    assert!(cache.is_some());
    let done = world.build(&[("a", "")]).await.ok();
    assert!(!done.out.contains("cached"), "a broken cache is none: {}", done.out);
    world.end().await;
}

#[tokio::test]
async fn listed_buildpacks_run_in_order_and_export_to_each_other() {
    let mut world = World::new().await;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "echo own: $TOLD; true")]);
    let first = world.git_buildpack(
        "first",
        &[
            ("bin/detect", "echo One"),
            ("bin/compile", "echo 'export TOLD=\"by the first\"' > $(dirname $0)/../export"),
            ("bin/release", "echo 'default_process_types: {web: first}'"),
        ],
    );
    let last = world.git_buildpack(
        "last",
        &[
            ("bin/detect", "echo Two"),
            ("bin/compile", "echo told $TOLD; touch $1/made"),
            ("bin/release", "echo 'default_process_types: {web: last}'"),
        ],
    );
    let list = format!("# mine\n{first}\n\nheroku/test\n{last}#master\n");
    let done = world.build(&[(".buildpacks", &list)]).await.ok();
    assert!(done.out.starts_with("-----> Multipack app detected\n"), "{}", done.out);
    for line in [
        "       =====> Detected Framework: One\n",
        "       own: by the first\n",
        "       told by the first\n",
        "       Default process types for Multipack -> web\n",
    ] {
        assert!(done.out.contains(line), "{line} in {}", done.out);
    }
    assert_eq!(world.newest_slug()["app/.release"], "default_process_types: {web: last}\n");
    let empty = world.build(&[(".buildpacks", ""), ("a", "")]).await.ok();
    assert!(empty.out.starts_with("-----> Multipack app detected\n"), "{}", empty.out);
    world.end().await;
}

#[tokio::test]
async fn a_build_that_takes_too_long_says_what_it_was_at() {
    let mut world = World::new().await;
    world.set("BUILD_TIMEOUT", "2");
    world.own_buildpack("10-slow", &[TAKES_ALL, ("bin/compile", "sleep 3600")]);
    let (text, code) = world.build(&[("a", "")]).await.failure();
    let want = "the build was stopped after 2 s, while it was busy with: bin/compile of slow";
    assert_eq!((text.as_str(), code), (want, 1));
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_build_leaves_no_process() {
    let mut world = World::new().await;
    let compile = "sleep 3600 & echo $! >$2/pid.new; mv $2/pid.new $2/pid; wait";
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", compile)]);
    let config = world.config();
    assert_eq!(config.user, Some(user()));
    let pid = config.places.tmp.join("cache/pid");
    let output = Output::new(Captured::default(), Captured::default());
    let source = std::io::Cursor::new(tar(&[("a", "")]));
    let started = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        result = builder::build(&config, source, &output) => panic!("it ended: {result:?}"),
        () = started => {}
    }
    let stat = format!("/proc/{}/stat", fs::read_to_string(&pid).unwrap().trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.end().await;
}
