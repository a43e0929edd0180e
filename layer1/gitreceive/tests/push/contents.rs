//! What a build is sent is what was committed, byte for byte.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::controller::Entry;
use crate::world::{Work, World, noise};

/// Names that tools trip over.
const ODD: [&[u8]; 9] = [
    b"with blank",
    b"-leading-dash",
    b"new\nline",
    "\u{fc}n\u{ef}c\u{f6}d\u{e9}\u{2603}".as_bytes(),
    b"\xff\xfe not utf-8",
    b"quote\"'`$(x)",
    b"back\\slash",
    b" ",
    b".hidden",
];

/// A tree of `count` files and what the archive of it must hold, but for times.
fn odd_tree(work: &Work, count: usize) -> BTreeMap<Vec<u8>, Entry> {
    let mut want = BTreeMap::new();
    let long = "l".repeat(120);
    let folders: [&[u8]; 5] = [b"a", b"a/b c", b"\xe9", b"deep/d/e/e/p/e/r", long.as_bytes()];
    for folder in folders {
        std::fs::create_dir_all(work.dir.join(OsStr::from_bytes(folder))).unwrap();
        let mut at = Vec::new();
        for part in folder.split(|byte| *byte == b'/') {
            at.extend_from_slice(part);
            at.push(b'/');
            want.insert(at.clone(), entry(0o755, None, Vec::new()));
        }
    }
    for number in 0..count {
        let folder = folders[number % folders.len()];
        let name = [ODD[number % ODD.len()], number.to_string().as_bytes()].concat();
        let path = [folder, &name].join(&b'/');
        let file = work.dir.join(OsStr::from_bytes(&path));
        let bytes = number.to_string().repeat(number % 7).into_bytes();
        if number % 50 == 0 {
            let targets: [&[u8]; 4] = [b"nowhere", b"../a//x/", b"/etc/passwd", b"./."];
            let target = targets[number / 50 % targets.len()];
            symlink(OsStr::from_bytes(target), &file).unwrap();
            want.insert(path, entry(0o777, Some(target.to_vec()), Vec::new()));
            continue;
        }
        std::fs::write(&file, &bytes).unwrap();
        let mode = if number % 11 == 0 { 0o755 } else { 0o644 };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        want.insert(path, entry(mode, None, bytes));
    }
    want
}

fn entry(mode: u32, link: Option<Vec<u8>>, bytes: Vec<u8>) -> Entry {
    Entry { mode, time: 0, link, bytes }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_odd_files_arrive_as_they_are() {
    let world = World::start().await;
    let work = world.repository("work").await;
    let mut want = odd_tree(&work, 5000);
    want.insert(b"Procfile".to_vec(), entry(0o644, None, b"web: run\n".to_vec()));
    work.write(".gitignore", "x");
    work.commit("odd").await;
    let time: u64 = work.git(&["show", "-s", "--format=%ct"]).await.parse().unwrap();
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    let state = world.controller.snapshot();
    let files = state.builds[0].files();
    want.values_mut().for_each(|entry| entry.time = time);
    let show = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
    let missing: Vec<_> = want.keys().filter(|name| !files.contains_key(*name)).map(show).collect();
    let more: Vec<_> = files.keys().filter(|name| !want.contains_key(*name)).map(show).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}, too many {more:?}");
    assert!(files == want, "names are the same, contents are not");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_is_the_same_archive() {
    let world = World::start().await;
    let work = world.repository("work").await;
    world.controller.state().plan.exit = 1;
    for _ in 0..2 {
        assert!(!work.push(&world.url(), &["master"]).await.0);
    }
    let state = world.controller.snapshot();
    assert!(state.builds[0].stdin == state.builds[1].stdin);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_arrive() {
    let world = World::start().await;
    let work = world.repository("work").await;
    for number in 0..512 {
        let name = format!("noise{number}");
        std::fs::write(work.dir.join(name), noise(number, 100 << 10)).unwrap();
    }
    work.commit("large").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    let sent = world.controller.state().builds[0].files();
    for number in [0, 255, 511] {
        let name = format!("noise{number}");
        assert!(sent[name.as_bytes()].bytes == std::fs::read(work.dir.join(name)).unwrap());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_part_of_the_source_on_every_push() {
    let world = World::start().await;
    let part = world.repository("part").await;
    part.write("inner", "1");
    part.commit("part").await;
    let work = world.repository("work").await;
    let path = part.dir.to_string_lossy().into_owned();
    let add =
        ["-c", "protocol.file.allow=always", "submodule", "add", "--quiet", &path, "lib/part"];
    work.git(&add).await;
    work.commit("with a part").await;
    for text in ["1", "2"] {
        let (accepted, said) = work.push(&world.url(), &["master"]).await;
        assert!(accepted, "{said}");
        let files = world.controller.state().builds.last().unwrap().files();
        assert_eq!(files[&b"lib/part/inner"[..]].bytes, text.as_bytes());
        assert!(
            files.keys().all(|name| !name.ends_with(b".git") && !name.ends_with(b".gitmodules"))
        );
        part.write("inner", "2");
        part.commit("part, changed").await;
        let update =
            ["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--remote"];
        work.git(&update).await;
        work.commit("with the newer part").await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_on_the_servers_own_disk_is_refused() {
    let world = World::start_with(&[], |config| config.protocols = "https".to_owned()).await;
    let part = world.repository("part").await;
    let work = world.repository("work").await;
    let path = part.dir.to_string_lossy().into_owned();
    work.git(&["-c", "protocol.file.allow=always", "submodule", "add", "--quiet", &path, "p"])
        .await;
    work.commit("with a part").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(!accepted && said.contains("transport 'file' not allowed"), "{said}");
    assert!(world.controller.state().builds.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_named_config_is_no_repository() {
    let world = World::start().await;
    let work = world.repository("work").await;
    work.write("config/x", "y");
    work.write("HEAD", "ref: refs/heads/x");
    work.commit("odd names").await;
    let (accepted, said) = work.push(&world.url(), &["master"]).await;
    assert!(accepted, "{said}");
    assert_eq!(world.controller.state().builds[0].files()[&b"config/x"[..]].bytes, b"y");
    world.stop().await;
}
