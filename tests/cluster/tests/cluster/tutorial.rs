//! docs/guide/first-app.md, typed: an app with a database is pushed, scaled, read, changed and entered.

use anyhow::ensure;
use cluster_tests::{on_shared_platform, until};

use crate::examples::{Example, know_cluster};

#[test]
fn the_guide_to_the_first_app_is_true() {
    on_shared_platform(async |platform| {
        know_cluster(&platform)?;
        let app = Example::new(&platform, "hits")?;
        let flynn = |words: &[&str]| app.flynn(&platform, words);
        ensure!(app.git(&platform, &["remote", "-v"])?.contains("git.flynn.localhost/hits.git"));
        ensure!(flynn(&["route"])?.contains("http:hits.flynn.localhost"), "no route");
        let added = flynn(&["resource", "add", "postgres"])?;
        ensure!(added.contains("Created resource"), "{added}");
        ensure!(flynn(&["env"])?.contains("DATABASE_URL=postgres://"), "no database");

        let said = app.git(&platform, &["push", "flynn", "main:master"])?;
        for text in ["-----> Node.js app detected", "=====> Application deployed"] {
            ensure!(said.contains(text), "{text} is not in {said}");
        }
        app.until_page(&platform, "Hits = ").await?;
        ensure!(flynn(&["ps"])?.lines().filter(|line| line.contains("web")).count() == 1);

        let scaled = flynn(&["scale", "web=3"])?;
        ensure!(
            scaled.contains("scaling web: 1=>3") && scaled.contains("scale completed"),
            "{scaled}"
        );
        let mut seen = std::collections::BTreeSet::new();
        until("all three answer", async || {
            let page = platform.fetch(&app.url()).unwrap_or_default();
            seen.extend(page.lines().next().map(str::to_owned));
            seen.len() == 3
        })
        .await?;

        let mut log = String::new();
        until("the log has a line of each", async || {
            log = flynn(&["log"]).unwrap_or_default();
            log.matches("listening on 8080").count() >= 3
        })
        .await?;
        ensure!(log.contains("app[web."), "{log}");
        ensure!(flynn(&["log", "-n", "2"])?.lines().count() == 2);

        let file = app.dir().join("server.js");
        let text =
            std::fs::read_to_string(&file)?.replace("Hello from Flynn", "Good day from Flynn");
        std::fs::write(&file, text)?;
        let process = "clock: while true; do date; sleep 1; done\n";
        let procfile = std::fs::read_to_string(app.dir().join("Procfile"))? + process;
        std::fs::write(app.dir().join("Procfile"), procfile)?;
        app.git(&platform, &["commit", "-qam", "Another greeting, and a clock"])?;
        let said = app.git(&platform, &["push", "flynn", "main:master"])?;
        ensure!(said.contains("=====> Application deployed"), "{said}");
        app.until_page(&platform, "Good day from Flynn").await?;
        let listed = flynn(&["ps"])?;
        ensure!(listed.lines().filter(|line| line.contains("web")).count() == 3, "{listed}");
        ensure!(flynn(&["deployment"])?.contains("complete"), "no deployment");
        flynn(&["scale", "clock=1"])?;
        until("the clock is read", async || {
            flynn(&["log", "-t", "clock", "-n", "1"]).is_ok_and(|log| log.contains("app[clock."))
        })
        .await?;

        let inside = flynn(&["run", "bash", "-c", "ls server.js && echo $DATABASE_URL"])?;
        ensure!(inside.contains("server.js") && inside.contains("postgres://"), "{inside}");
        let counted = flynn(&["pg", "psql", "--", "-At", "-c", "SELECT count(*) > 3 FROM hits"])?;
        ensure!(counted.trim() == "t", "{counted}");

        flynn(&["release", "rollback", "-y"])?;
        app.until_page(&platform, "Hello from Flynn").await
    });
}
