//! From a fresh host to a page: bootstrap, an app of an imported image, scale, route, power cut.

use std::process::Command;

use anyhow::Context as _;
use cluster_tests::{DOMAIN, Node, Platform, on_platform, until};
use serde_json::json;

fn dig(node: &Node, server: &str, name: &str) -> anyhow::Result<String> {
    let mut command: Command = node.host.command("dig");
    let done =
        command.args([&format!("@{server}"), name, "+short", "+time=2", "+tries=1"]).output()?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

async fn bridge_address(platform: &Platform) -> anyhow::Result<String> {
    let network = platform.node.client.status().await?.network.context("no network")?;
    Ok(network.subnet.split('/').next().unwrap_or_default().to_owned())
}

/// How many jobs of the process type `flynn ps` shows as running.
fn running(platform: &Platform, app: &str, process: &str) -> usize {
    let listed = platform.flynn(&["-a", app, "ps"]).unwrap_or_default();
    let running = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.contains(&process) && words.contains(&"up")
    };
    listed.lines().filter(running).count()
}

#[test]
fn an_imported_image_becomes_a_page_and_survives_a_power_cut() {
    on_platform("platform", async |mut platform| {
        let gateway = bridge_address(&platform).await?;
        let external = platform.node.host.ip.to_string();
        assert_eq!(dig(&platform.node, &gateway, "leader.discoverd.discoverd")?, external);
        assert!(platform.flynn(&["apps"])?.contains("controller"));

        let port = json!({"port": 8080, "proto": "tcp", "service": {
            "name": "hello-web", "create": true, "check": {"type": "tcp"}}});
        let web = json!({"args": ["/bin/test-apps", "hello"], "ports": [port]});
        platform.app("hello", &json!({ "web": web })).await?;
        let scaled = platform.flynn(&["-a", "hello", "scale", "web=3"])?;
        assert!(scaled.contains("scale completed"), "{scaled}");
        let page = format!("http://hello.{DOMAIN}/");
        until("the page is there", async || platform.fetch(&page).is_ok()).await?;
        assert!(platform.fetch(&page)?.contains("Hello from Flynn on port 8080"));
        assert_eq!(running(&platform, "hello", "web"), 3);

        platform.node.power_cut().await?;
        let back = until("the page is back", async || platform.fetch(&page).is_ok()).await;
        back.with_context(|| platform.node.log())?;
        assert_eq!(dig(&platform.node, &gateway, "leader.discoverd.discoverd")?, external);
        until("three are up again", async || running(&platform, "hello", "web") == 3).await?;
        Ok(())
    });
}
