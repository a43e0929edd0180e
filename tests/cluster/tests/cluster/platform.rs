//! From a fresh host to a page: bootstrap, an app of an imported image, scale, route.

use std::process::Command;

use anyhow::{Context as _, bail};
use cluster_tests::{Node, on_bare_host, until};

const DOMAIN: &str = "flynn.localhost";

/// Runs the bootstrap; gives what it printed.
async fn bootstrap(node: &Node) -> anyhow::Result<String> {
    for image in ["core", "component", "postgres"] {
        node.import(image).await?;
    }
    let data = node.data_dir();
    let mut command = node.flynn_host(&["bootstrap", "--job-timeout", "120", "--data-dir"])?;
    command.arg(data).env("CLUSTER_DOMAIN", DOMAIN);
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("bootstrap failed: {text}\n{errors}\n{}", node.log());
    }
    Ok(text)
}

/// The `flynn` command with a home of its own.
struct Flynn {
    home: std::path::PathBuf,
}

impl Flynn {
    fn of(node: &Node, bootstrap: &str) -> anyhow::Result<Self> {
        let home = node.host.dir.join("home");
        std::fs::create_dir_all(&home)?;
        let flynn = Self { home };
        let line = bootstrap.lines().find(|line| line.starts_with("flynn cluster add"));
        let line = line.with_context(|| format!("no cluster add in {bootstrap}"))?;
        let words: Vec<_> = line.split(' ').skip(1).collect();
        let words: Vec<_> = words
            .iter()
            .flat_map(|word| if *word == "add" { vec!["add", "--no-git"] } else { vec![*word] })
            .collect();
        flynn.run(node, &words)?;
        Ok(flynn)
    }

    fn run(&self, node: &Node, args: &[&str]) -> anyhow::Result<String> {
        let mut command = node.host.command(cluster_tests::binaries()?.join("flynn"));
        command.args(args).env("HOME", &self.home).env("FLYNNRC", self.home.join("flynnrc"));
        let done = command.output()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            bail!("flynn {args:?}: {text}{}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(text)
    }
}

fn fetch(node: &Node, url: &str) -> anyhow::Result<String> {
    let mut command: Command = node.host.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "5", url]);
    let done = command.output()?;
    if !done.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn dig(node: &Node, server: &str, name: &str) -> anyhow::Result<String> {
    let mut command: Command = node.host.command("dig");
    let done =
        command.args([&format!("@{server}"), name, "+short", "+time=2", "+tries=1"]).output()?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

#[test]
fn an_imported_image_becomes_a_page() {
    on_bare_host("platform", async |node| {
        let said = bootstrap(&node).await?;
        let network = node.client.status().await?.network.context("no network")?;
        let gateway = network.subnet.split('/').next().unwrap_or_default().to_owned();
        let external = node.host.ip.to_string();
        assert_eq!(dig(&node, &gateway, "leader.discoverd.discoverd")?, external);

        let flynn = Flynn::of(&node, &said)?;
        assert!(flynn.run(&node, &["apps"])?.contains("controller"));
        flynn.run(&node, &["create", "--remote", "", "hello"])?;
        let artifact = node.client.images().await?.remove("test-apps").context("no image")?;
        let release = node.host.dir.join("release.json");
        let processes = serde_json::json!({"processes": {"web": {
            "args": ["/bin/test-apps", "hello"],
            "ports": [{"port": 8080, "proto": "tcp", "service": {
                "name": "hello-web", "create": true, "check": {"type": "tcp"}}}],
        }}});
        std::fs::write(&release, processes.to_string())?;
        let uri = artifact["uri"].as_str().context("an artifact has a URI")?;
        let file = release.to_string_lossy().into_owned();
        flynn.run(&node, &["-a", "hello", "release", "add", "-f", &file, uri])?;
        let scaled = flynn.run(&node, &["-a", "hello", "scale", "web=3"])?;
        assert!(scaled.contains("scale completed"), "{scaled}");

        let page = format!("http://hello.{DOMAIN}/");
        until("the page is there", async || fetch(&node, &page).is_ok()).await?;
        assert!(fetch(&node, &page)?.contains("Hello from Flynn on port 8080"));

        Ok(())
    });
}
