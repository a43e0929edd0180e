//! One job on one host: its end, its output, its volume, and a daemon that is killed meanwhile.

use std::io::Read as _;
use std::process::Stdio;

use anyhow::Context as _;
use cluster_tests::{Counts, on_host, until};
use host_api::{JobStatus, VolumeBinding, VolumeInfo};

#[test]
fn a_job_outlives_the_daemon_and_its_exit_status_arrives() {
    on_host("exit", async |mut node| {
        // The job ends when it is told to, so that the kill always comes first.
        let mut run =
            node.flynn_host(&["run", "--image", "test-apps", "--", "/bin/test-apps", "crasher"])?;
        let mut run = run.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut said = [0; 16];
        run.stdout.as_mut().unwrap().read_exact(&mut said[..15])?;
        assert_eq!(&said[..15], b"I like to crash");
        node.kill_daemon()?;
        node.start_daemon().await?;
        // What it prints can be seen before it is known to run; the supervisor tells the new daemon.
        until("the job is known to run", async || {
            let jobs = node.client.active_jobs().await.unwrap_or_default();
            jobs.values().any(|job| job.status == JobStatus::Running)
        })
        .await?;
        let jobs = node.client.active_jobs().await?;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let id = jobs.keys().next().unwrap();
        node.client.signal_job(id, 15).await?;
        let ended = tokio::task::spawn_blocking(move || run.wait()).await??;
        assert_eq!(ended.code(), Some(1), "{}", node.log());
        Ok(())
    });
}

#[test]
fn standard_input_comes_back_byte_for_byte() {
    on_host("cat", async |node| {
        let sent: Vec<u8> =
            (0_u32..10 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let run = node.job(&["cat"]).await?.with_input(sent.clone());
        let output = node.run(&run).await?;
        assert_eq!(output.exit, 0);
        assert!(output.stdout == sent, "{} of {} bytes", output.stdout.len(), sent.len());
        Ok(())
    });
}

#[test]
fn what_one_job_writes_to_a_volume_the_next_one_reads() {
    on_host("volume", async |node| {
        let volume = node.client.create_volume("default", &VolumeInfo::default()).await?;
        let binding = VolumeBinding {
            target: "/data".to_owned(),
            volume: volume.id.clone(),
            writeable: true,
            delete_on_stop: false,
        };
        let mut write = node.job(&["fill", "/data/file"]).await?;
        write.job.config.args =
            ["/bin/test-apps", "write", "/data/file", "kept"].map(str::to_owned).to_vec();
        write.job.config.volumes = vec![binding.clone()];
        assert_eq!(node.run(&write).await?.exit, 0);
        let mut read = node.job(&["read", "/data/file"]).await?;
        read.job.config.volumes = vec![VolumeBinding { writeable: false, ..binding }];
        assert_eq!(node.run(&read).await?.text(), "kept");
        node.client.destroy_volume(&volume.id.to_string()).await?;
        Ok(())
    });
}

#[test]
fn jobs_that_come_and_go_leave_nothing() {
    on_host("cycles", async |node| {
        // Of one app: an address rests for a minute before another app gets it, and there are 253.
        let app = kit_ids::AppId::random().to_string();
        let run = async || {
            let mut run = node.job(&["limits"]).await?;
            run.job.metadata.insert("flynn-controller.app".to_owned(), app.clone());
            node.run(&run).await
        };
        run().await?;
        until("the first job is gone", async || {
            node.client.active_jobs().await.is_ok_and(|jobs| jobs.is_empty())
        })
        .await?;
        until("what the next job will find ready is there", async || Counts::now(&node).is_ready())
            .await?;
        let before = Counts::now(&node);
        let cycles = std::env::var("CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
        for _ in 0..cycles {
            assert_eq!(run().await?.exit, 0);
        }
        until("nothing has grown", async || Counts::now(&node).is_within(&before))
            .await
            .with_context(|| format!("{:?} before, {before:?}", Counts::now(&node)))?;
        Ok(())
    });
}
