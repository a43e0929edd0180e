//! The machine over HTTP: clock, disk, memory, and the hosts this one knows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use host_api::{HostHealth, Space, Timestamp};
use kit_http::{ApiError, Json};

use crate::host::Host;
use crate::members;

/// Where the kernel says how its memory is used (proc(5)).
const MEMINFO: &str = "/proc/meminfo";

/// A disk that does not answer must not hold up the daemon's other work.
pub(super) async fn health(State(host): State<Arc<Host>>) -> Result<Json<HostHealth>, ApiError> {
    let data_dir = host.config.data_dir.clone();
    let looked = tokio::task::spawn_blocking(move || (disk(&data_dir), memory())).await;
    let (disk, memory) = looked.map_err(|lost| ApiError::internal(&lost))?;
    Ok(Json(HostHealth {
        data_dir: host.config.data_dir.display().to_string(),
        disk,
        memory,
        members: members::addresses(&host).into_iter().collect(),
        now: Timestamp::from(host.clock.wall()),
    }))
}

/// The disk of a folder; nothing where it cannot be told.
pub(super) fn disk(folder: &Path) -> Space {
    let found = rustix::fs::statvfs(folder);
    found.map_or(Space::default(), |disk| Space {
        total: disk.f_blocks * disk.f_frsize,
        free: disk.f_bavail * disk.f_frsize,
    })
}

fn memory() -> Space {
    fs::read_to_string(MEMINFO).map_or(Space::default(), |text| of_meminfo(&text))
}

/// Lines such as `MemAvailable:    7997384 kB`.
fn of_meminfo(text: &str) -> Space {
    let kib = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
    };
    match (kib("MemTotal"), kib("MemAvailable")) {
        (Some(total), Some(free)) => Space { total: total * 1024, free: free * 1024 },
        (None, _) | (_, None) => Space::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_calls_available() {
        let text = "MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:   5000 kB\n";
        assert_eq!(of_meminfo(text), Space { total: 8000 * 1024, free: 5000 * 1024 });
        assert_eq!(of_meminfo("MemTotal: 8000 kB\n"), Space::default(), "half is no answer");
        assert_eq!(of_meminfo("MemTotal: x kB\nMemAvailable: 1 kB"), Space::default());
    }
}
