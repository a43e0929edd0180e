//! From source to slug: what is in it, what is said about it, what is uploaded.

use serde_json::json;

use super::world::{TOKEN, World};

const TAKES_ALL: (&str, &str) = ("bin/detect", "echo Test");
const RELEASE: (&str, &str) = (
    "bin/release",
    "printf -- '---\\ndefault_process_types:\\n  web: ./run\\nconfig_vars:\\n  A: b\\n'",
);

#[tokio::test]
async fn a_source_becomes_a_slug_with_its_process_types() {
    let mut world = World::new().await;
    world.own_buildpack(
        "10-test",
        &[
            TAKES_ALL,
            ("bin/compile", "echo '   compiling'; echo '-----> Title'; id -u; echo made > $1/made"),
            RELEASE,
        ],
    );
    let source = [("web.js", "code"), ("Procfile", "web: node web.js\nworker: ./work\n")];
    let done = world.build(&source).await.ok();
    assert_eq!(
        done.out.lines().take(8).collect::<Vec<_>>(),
        [
            "-----> Test app detected",
            "       compiling",
            "-----> Title",
            "       5000",
            "-----> Discovering process types",
            "       Procfile declares types -> web, worker",
            "       Default process types for Test -> web",
            "-----> Uploading slug to blobstore",
        ]
    );
    assert!(done.out.contains("-----> Compiled slug size is 4.0KiB"), "{}", done.out);
    let slug = world.newest_slug();
    let names: Vec<_> = slug.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["app/.release", "app/Procfile", "app/made", "app/web.js", "etc/group", "etc/passwd"]
    );
    assert_eq!(slug["etc/passwd"], "flynn:x:5000:5000:Flynn:/app:/bin/bash\n");
    let artifact = world.newest_artifact();
    assert_eq!(
        artifact["meta"],
        json!({"blobstore": "true", "slugbuilder.process_types": "web,worker"})
    );
    let manifest = artifact["uri"].as_str().unwrap().split_once("/slugs").unwrap().1.to_owned();
    let stored = world.fakes.blob(&format!("/slugs{manifest}")).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&stored).unwrap(), artifact["manifest"]);
    for shown in world.fakes.authorizations.lock().unwrap().iter() {
        assert_eq!(shown, &format!("Bearer {TOKEN}"));
    }
    world.end().await;
}

#[tokio::test]
async fn the_same_source_twice_is_one_layer_and_two_artifacts() {
    let mut world = World::new().await;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "date +%N >$2/noise"), RELEASE]);
    world.build(&[("a", "1")]).await.ok();
    world.build(&[("a", "1")]).await.ok();
    assert_eq!(world.fakes.layer_puts(), 1);
    let artifacts = world.fakes.artifacts.lock().unwrap().clone();
    assert_ne!(artifacts[0]["uri"], artifacts[1]["uri"]);
    assert_eq!(artifacts[1]["meta"]["slugbuilder.process_types"], "web");
    world.end().await;
}

#[tokio::test]
async fn a_runtime_is_a_layer_of_its_own_and_comes_back() {
    let mut world = World::new().await;
    let compile = r#"
        to=$FLYNN_RUNTIMES/lang/1.2.3
        if [ -d "$to" ]; then
          echo "runtime is back: $(cat "$to/bin/lang")"
          touch "$to/bin/lang" 2>/dev/null || echo "and cannot be changed"
        else
          mkdir -p "$to/bin"; echo language > "$to/bin/lang"
        fi
        [ -f "$1/unused" ] || echo lang 1.2.3 >> "$FLYNN_RUNTIMES/used"
        [ ! -f "$1/missing" ] || echo lang 9 >> "$FLYNN_RUNTIMES/used""#;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", compile)]);
    let first = world.build(&[("a", "1")]).await.ok();
    assert!(first.out.contains("on the shared runtime lang 1.2.3"), "{}", first.out);
    let second = world.build(&[("a", "2")]).await.ok();
    assert!(second.out.contains("runtime is back: language"), "{}", second.out);
    assert!(second.out.contains("and cannot be changed"), "{}", second.out);
    assert_eq!(world.fakes.layer_puts(), 3, "one runtime, two apps");
    let slug = world.newest_slug();
    assert_eq!(slug["runtimes/lang/1.2.3/bin/lang"], "language\n");
    assert_eq!(slug["app/a"], "2");
    // A runtime that is gone from the store is installed again.
    world.fakes.blobs.lock().unwrap().retain(|name, _| name.ends_with("-cache.tgz"));
    let third = world.build(&[("a", "2")]).await.ok();
    assert!(!third.out.contains("runtime is back"), "{}", third.out);
    assert!(world.newest_slug().contains_key("runtimes/lang/1.2.3/bin/lang"));
    let fourth = world.build(&[("unused", "")]).await.ok();
    assert!(fourth.out.contains("runtime is back"), "{}", fourth.out);
    assert!(!world.newest_slug().contains_key("runtimes/lang/1.2.3/bin/lang"));
    let (text, _) = world.build(&[("missing", "")]).await.failure();
    assert!(text.starts_with("\"lang 9\" in the list of used runtimes names none"), "{text}");
    world.end().await;
}

#[tokio::test]
async fn what_slugignore_names_is_not_in_the_slug() {
    let mut world = World::new().await;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "true")]);
    let source = [
        (".slugignore", "# comment\nfoo\n\n  bar\n"),
        ("foo", ""),
        ("bar/x", ""),
        ("existing", ""),
    ];
    let done = world.build(&source).await.ok();
    assert!(
        done.out.contains("-----> Deleting 2 files matching .slugignore patterns.\n"),
        "{}",
        done.out
    );
    let slug = world.newest_slug();
    assert!(slug.contains_key("app/existing"));
    assert!(!slug.contains_key("app/foo") && !slug.contains_key("app/bar/x"));
    world.end().await;
}

#[tokio::test]
async fn uploads_are_tried_three_times() {
    let mut world = World::new().await;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "true")]);
    *world.fakes.refusals.lock().unwrap() = 2;
    world.build(&[("a", "1")]).await.ok();
    *world.fakes.refusals.lock().unwrap() = 3;
    let (text, code) = world.build(&[("a", "other")]).await.failure();
    assert!(text.starts_with("cannot store the slug: unexpected HTTP status 503"), "{text}");
    assert_eq!(code, 1);
    assert_eq!(world.fakes.artifacts.lock().unwrap().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_source_that_leads_out_is_refused_by_name() {
    let mut world = World::new().await;
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "true")]);
    let mut source = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    source.append_link(&mut header, "config", "/proc/self/environ").unwrap();
    let config = world.config();
    let done = world.build_with(config, source.into_inner().unwrap()).await;
    let want = "cannot unpack the source: config points out of the archive, to /proc/self/environ";
    assert_eq!(done.failure(), (want.to_owned(), 1));
    // What a buildpack links to is not read with the builder's rights either.
    world.own_buildpack("10-test", &[TAKES_ALL, ("bin/compile", "ln -s /etc/passwd $1/Procfile")]);
    let done = world.build(&[("a", "1")]).await;
    assert_eq!(done.failure().0, "Procfile leads out of the app");
    world.end().await;
}
