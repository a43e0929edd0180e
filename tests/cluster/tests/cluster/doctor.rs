//! Three hosts of which two are lost for good: `flynn-host doctor` says so, `fix` begins discoverd anew from
//! the third, `forget` leaves nothing of the lost ones.

use anyhow::{Context as _, ensure};
use cluster_tests::{Cluster, on_cluster, until};
use serde_json::Value;

/// What doctor finds, by code, without what the machine under the tests may lack.
fn codes(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut command = cluster.platform.node.operator(&["doctor", "--json"])?;
    let said = command.output()?;
    let report: Value = serde_json::from_slice(&said.stdout)
        .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
    let findings = report["findings"].as_array().context("no findings")?;
    let codes = findings.iter().filter_map(|finding| finding["code"].as_str());
    let of_machine = ["disk-full", "disk-low", "memory-low"];
    Ok(codes.filter(|code| !of_machine.contains(code)).map(str::to_owned).collect())
}

#[test]
fn two_of_three_hosts_are_lost_for_good() {
    on_cluster("lost", 3, async |mut cluster| {
        let mut last = Vec::new();
        let well = until("doctor finds nothing", async || {
            last = codes(&cluster).unwrap_or_else(|error| vec![format!("{error:#}")]);
            last.is_empty()
        });
        well.await.with_context(|| format!("{last:?}"))?;

        let mut lost = Vec::new();
        for node in &mut cluster.others {
            lost.push(node.host.ip.to_string());
            node.turn_off()?;
        }
        let seen = until("doctor finds the quorum lost", async || {
            last = codes(&cluster).unwrap_or_else(|error| vec![format!("{error:#}")]);
            last.first().is_some_and(|code| code == "quorum-lost")
        });
        seen.await.with_context(|| format!("{last:?}"))?;
        ensure!(cluster.operator(&["fix"]).is_err(), "without the flag it only tells");
        let done = cluster.operator(&["fix", "--rebuild-discoverd", "--yes"])?;
        ensure!(done.contains("is led by lost1 again"), "{done}");

        let mut forget = vec!["forget"];
        forget.extend(lost.iter().map(String::as_str));
        cluster.operator(&forget)?;
        let gone = until("nothing of the lost hosts is left", async || {
            last = codes(&cluster).unwrap_or_else(|error| vec![format!("{error:#}")]);
            let left = ["host-silent", "voter", "member", "lease", "two-hosts", "quorum"];
            !last.iter().any(|code| left.iter().any(|part| code.starts_with(part)))
        });
        gone.await.with_context(|| format!("{last:?}"))
    });
}
