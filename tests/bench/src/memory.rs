//! Memory of the idle platform: proportional set sizes, so that shared pages count once.

use std::collections::BTreeMap;

use cluster_tests::{Platform, on_platform};

const SETTLE: std::time::Duration = std::time::Duration::from_secs(20);

pub(crate) fn measure() {
    on_platform("bench", async |platform| {
        std::thread::sleep(SETTLE);
        let by_process = by_process(&platform);
        let total: u64 =
            by_process.iter().filter(|(name, _)| !is_postgres(name)).map(|(_, kib)| kib).sum();
        for (name, kib) in &by_process {
            println!("memory, {name}: {:.1} MB", *kib as f64 / 1000.0);
        }
        println!("memory, all but the PostgreSQL server: {:.1} MB", total as f64 / 1000.0);
        Ok(())
    });
}

fn is_postgres(name: &str) -> bool {
    name.starts_with("postgres")
}

/// KiB by program and its first argument.
fn by_process(platform: &Platform) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for pid in platform.node.host.everything() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let name = if is_postgres(program) {
            "postgres".to_owned()
        } else {
            format!("{program} {}", words.next().unwrap_or_default())
        };
        *found.entry(name).or_default() += proportional(pid).unwrap_or(0);
    }
    found
}

fn proportional(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
