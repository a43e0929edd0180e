//! What a user job sees of its walls, and what it is told when it runs into one.

use cluster_tests::on_host;
use host_api::ResourceKind;

#[test]
fn a_job_is_root_only_in_its_own_eyes() {
    on_host("walls", async |node| {
        let output = node.run_app(&["probe"]).await?;
        let text = output.text();
        assert!(text.lines().count() > 10, "{text}");
        let allowed: Vec<_> = text.lines().filter(|line| !line.ends_with(" refused")).collect();
        assert!(allowed.is_empty(), "{allowed:?}");

        let first = node.run_app(&["status"]).await?.text();
        for want in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t00000000800405fb"] {
            assert!(first.contains(want), "{want} is not in {first}");
        }
        let map = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("uid_map ")).unwrap_or_default();
            let numbers: Vec<u64> =
                line.split(' ').skip(1).filter_map(|n| n.parse().ok()).collect();
            numbers
        };
        let (first, second) = (map(&first), map(&node.run_app(&["status"]).await?.text()));
        assert_eq!((first[0], first[2]), (0, 65536), "{first:?}");
        assert!(first[1] >= 1_000_000, "{first:?}");
        assert_eq!(second[2], 65536);
        Ok(())
    });
}

#[test]
fn limits_hold_and_are_told() {
    on_host("limits", async |node| {
        let mut limits = node.job(&["limits"]).await?;
        limits.job.resources.set(ResourceKind::Memory, None, Some(256 << 20));
        limits.job.resources.set(ResourceKind::Cpu, None, Some(750));
        limits.job.resources.set(ResourceKind::MaxFd, Some(1024), Some(1024));
        let seen = node.run(&limits).await?.text();
        let lines: Vec<_> = seen.lines().collect();
        assert_eq!((lines[0], lines[2]), ("268435456", "1024"), "{seen}");

        let mut hog = node.job(&["oom"]).await?;
        hog.job.resources.set(ResourceKind::Memory, None, Some(64 << 20));
        let output = node.run(&hog).await?;
        let said = String::from_utf8_lossy(&output.init).into_owned();
        assert!(
            said.contains("FATAL: a container process was killed due to lack of available memory"),
            "{said}"
        );

        let mut bomb = node.job(&["fork"]).await?;
        bomb.job.resources.set(ResourceKind::MaxProcs, Some(50), Some(50));
        let text = node.run(&bomb).await?.text();
        let forks: u32 = text.trim().trim_start_matches("refused after ").parse()?;
        assert!(forks < 50, "{text}");

        let mut fill = node.job(&["fill", "/fill"]).await?;
        fill.job.resources.set(ResourceKind::TempDisk, None, Some(64 << 20));
        let text = node.run(&fill).await?.text();
        let megabytes: u32 =
            text.trim_start_matches("refused after ").split(' ').next().unwrap_or("").parse()?;
        assert!((32..=64).contains(&megabytes), "{text}");
        Ok(())
    });
}
