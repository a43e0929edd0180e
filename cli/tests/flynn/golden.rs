//! The specification's golden outputs, by their numbers (spec/cli.md, part D).

use crate::answers::*;
use crate::controller::Controller;
use crate::invocation::Person;

#[tokio::test]
async fn g1_to_g6_bad_usage_and_no_cluster() {
    let person = Person::new();
    let usage = "1| usage: flynn [-a <app>] [-c <cluster>] <command> [<args>...]";
    Person::check(&person.flynn("").await, 1, &[usage]);
    Person::check(
        &person.flynn("foo").await,
        1,
        &["2| foo is not a flynn command. See 'flynn help'"],
    );
    let usage = "1| usage: flynn ps [-a] [-c] [-q] [-t <type>]";
    Person::check(&person.flynn("ps --bogus").await, 1, &[usage]);
    Person::check(&person.flynn("version").await, 0, &["1| dev"]);
    Person::check(&person.flynn("--version").await, 0, &["1| dev"]);
    Person::check(&person.flynn("apps").await, 1, &["2| no clusters configured"]);
    let person = Person::with(&demo().await);
    Person::check(&person.flynn("-c zz apps").await, 1, &["2| unknown cluster \"zz\""]);
}

#[tokio::test]
async fn g7_to_g11_apps() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let no_app = "2| no app found, run from a repo with a flynn remote or specify one with -a";
    Person::check(&person.flynn("ps").await, 1, &[no_app]);
    controller.answer("POST /apps", r#"{"name":"demo","meta":{}}"#);
    Person::check(&person.flynn("create demo").await, 0, &["2| Created demo"]);
    assert_eq!(controller.changes(), [r#"POST /apps {"name":"demo","meta":null}"#]);
    Person::check(&person.flynn("create").await, 0, &["2| Created demo"]);
    assert_eq!(controller.changes()[1], r#"POST /apps {"meta":null}"#);
    let rows = [format!("1| ID{}  NAME", " ".repeat(34)), format!("1| {A}  demo")];
    Person::check(&person.flynn("apps").await, 0, &rows.each_ref().map(String::as_str));
    Person::check(&person.flynn("-a nope ps").await, 1, &["2| controller: resource not found"]);
    controller.answer("GET /apps/new/routes", r#"[{"type":"http","domain":"demo.gold.test"}]"#);
    let info = [
        "1| === new",
        "1| Git URL:  https://git.gold.test/new.git",
        "1| Web URL:  http://demo.gold.test",
    ];
    Person::check(&person.flynn("-a new info").await, 0, &info);
    Person::check(&person.flynn("-a demo info").await, 0, &["1| === demo"]);
}

#[tokio::test]
async fn g12_g13_jobs() {
    let person = Person::with(&demo().await);
    let said = person.flynn("-a demo ps").await;
    let (u1, u4) = (job(1), job(4));
    let years = said.out.lines().nth(1).map(|line| line.split("  ").nth(4)).map(|_| "years ago");
    assert_eq!(years, Some("years ago"));
    let want = format!(
        "ID{}  TYPE    STATE    CREATED      RELEASE\n\
         host0-{u1}  web     up       (AGO)  {R}\n\
         {u4}        worker  pending  (AGO)  {R}\n",
        " ".repeat(40)
    );
    assert_eq!(ageless(&said.out), want);
    let all = person.flynn("-a demo ps -ac").await;
    let rows: Vec<Vec<&str>> = all
        .out
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["ID", "TYPE", "STATE", "CREATED", "RELEASE", "COMMAND"]);
    assert_eq!((rows[2][1].trim(), rows[2][2].trim()), ("run", "down"));
    assert_eq!(rows[4].last(), Some(&"/bin/worker -x"));
    let ids = person.flynn("-a demo ps -aq").await;
    assert_eq!(
        ids.out,
        format!("host0-{}\nhost0-{}\nhost0-{}\n{}\n", job(1), job(2), job(3), job(4))
    );
    assert_eq!(person.flynn("-a demo ps -q -t worker").await.out, format!("{}\n", job(4)));
}

/// Without a reason there is no such column (G12).
#[tokio::test]
async fn jobs_that_wait_say_why() {
    let controller = demo().await;
    let (web, worker) = (job(1), job(4));
    let jobs = format!(
        r#"[{{"id":"host0-{web}","uuid":"{web}","host_id":"host0","release":"{R}","type":"web","state":"up"}},
            {{"uuid":"{worker}","release":"{R}","type":"worker","state":"pending",
              "host_error":"no host has tag disk=ssd"}}]"#
    );
    controller.answer("GET /apps/waiting/jobs", &jobs);
    let said = Person::with(&controller).flynn("-a waiting ps").await;
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].ends_with("RELEASE                               WHY"), "{}", said.out);
    assert!(lines[2].ends_with(&format!("{R}  no host has tag disk=ssd")), "{}", said.out);
}

/// The years since the fixture was made change.
fn ageless(text: &str) -> String {
    let ages = text
        .split("  ")
        .find(|cell| cell.trim_start().ends_with(" ago"))
        .unwrap_or("(AGO)")
        .trim()
        .to_owned();
    text.replace(&ages, "(AGO)")
}

#[tokio::test]
async fn g14_to_g18_environment() {
    let controller = demo().await;
    let person = Person::with(&controller);
    Person::check(&person.flynn("-a demo env get -t web WEBVAR").await, 0, &["1| 1"]);
    let missing = format!("2| var \"NOPE\" not found in release \"{R}\"");
    Person::check(&person.flynn("-a demo env get NOPE").await, 1, &[&missing]);
    let missing = format!("2| process type \"zz\" not found in release {R}");
    Person::check(&person.flynn("-a demo env get -t zz FOO").await, 1, &[&missing]);
    Person::check(&person.flynn("-a demo env -t web").await, 0, &["1| FOO=bar", "1| WEBVAR=1"]);
    let created = format!("2| Created release {R2}.");
    Person::check(&person.flynn("-a demo env set A=1 B=x~y").await, 0, &[&created]);
    let changes = controller.changes();
    assert!(changes[0].contains(r#""env":{"A":"1","B":"x y","FOO":"bar"}"#), "{}", changes[0]);
    assert!(changes[0].contains(&format!(r#"{{"app_id":"{A}""#)), "without an id: {}", changes[0]);
    assert_eq!(changes[1], format!(r#"POST /apps/demo/deploy {{"id":"{R2}"}}"#));
    Person::check(
        &person.flynn("-a demo env set bad").await,
        1,
        &["2| invalid var format: \"bad\""],
    );
    Person::check(&person.flynn("-a demo env unset FOO -t web").await, 0, &[&created]);
    let missing = format!("2| process \"zz\" in release {R} not found");
    Person::check(&person.flynn("-a demo env set -t zz A=1").await, 1, &[&missing]);
}

#[tokio::test]
async fn g19_to_g22_limits() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let lines = [
        "1| web:     cpu=1000  max_fd=10000  memory=1GB  temp_disk=100MB",
        "1| worker:  cpu=1000  max_fd=10000  memory=1GB  temp_disk=100MB",
    ];
    Person::check(&person.flynn("-a demo limit").await, 0, &lines);
    let created = format!("1| Created release {R2}");
    let said = person.flynn("-a demo limit set web memory=512MB max_fd=12k cpu=2000").await;
    Person::check(&said, 0, &[&created]);
    assert!(controller.changes()[0].contains(r#""max_fd":{"request":12000,"limit":12000},"memory":{"request":536870912,"limit":536870912}"#));
    let warning = "2| Warning: \"new\" is not an existing process type, setting anyway";
    Person::check(
        &person.flynn("-a demo limit set new memory=1.5GB").await,
        0,
        &[&created, warning],
    );
    let unknown = "2| invalid resource limit type: [\"bogus\" \"1\"]";
    Person::check(&person.flynn("-a demo limit set web bogus=1").await, 1, &[unknown]);
    Person::check(
        &person.flynn("-a demo limit -t zz").await,
        1,
        &["2| unknown process type \"zz\""],
    );
}

#[tokio::test]
async fn g23_g24_counts() {
    let person = Person::with(&demo().await);
    Person::check(&person.flynn("-a demo scale").await, 0, &["1| web=1 worker=0"]);
    let current = format!("1| {R} (current)");
    Person::check(&person.flynn("-a demo scale --all").await, 0, &[&current, "1| web=1"]);
    let conflict = "2| ERROR: Can't use --all in combination with --release";
    Person::check(&person.flynn("-a demo scale --all --release R").await, 1, &[conflict]);
    Person::check(
        &person.flynn("-a demo scale --all web=3").await,
        1,
        &["2| ERROR: Can't use --all when scaling"],
    );
    let controller = Controller::start().await;
    let person = Person::with(&controller);
    let none = "2| No app release, specify a release with --release";
    Person::check(&person.flynn("-a x scale web=1").await, 1, &[none]);
}

#[tokio::test]
async fn g25_scaling_shows_each_step_of_each_job() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let scale = format!("PUT /apps/demo/scale/{R}");
    let request = |old: u32, new: u32, state: &str| {
        format!(
            r#"{{"id":"{Q}","app":"{A}","release":"{R}","state":"{state}","old_processes":{{"web":{old}}},"new_processes":{{"web":{new}}},"created_at":null,"updated_at":null}}"#
        )
    };
    controller.answer(&scale, &request(1, 3, "pending"));
    let uuid = job(9);
    let step = |id: u32, at: &str, state: &str, release: &str| {
        format!(
            r#"{{"id":{id},"object_type":"job","data":{{{at}"uuid":"{uuid}","type":"web","release":"{release}","state":"{state}"}}}}"#
        )
    };
    let placed = format!(r#""id":"host0-{uuid}","#);
    let events = [
        step(1, "", "pending", R),
        step(2, &placed, "up", R2),
        step(3, &placed, "starting", R),
        step(4, &placed, "up", R),
        format!(r#"{{"id":5,"object_type":"scale_request","data":{}}}"#, request(1, 3, "complete")),
    ];
    let stream =
        "GET /events?app_id=demo&object_types=job%2Cscale_request%2Cscale_request_cancelation";
    controller.events(stream, &events.each_ref().map(String::as_str));
    let said = person.flynn("-a demo scale web=3").await;
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..2], ["scaling web: 1=>3", ""]);
    let untimed: Vec<&str> = lines[2..5].iter().map(|line| &line[12..]).collect();
    let want = [
        format!(" ==> web {uuid} pending"),
        format!(" ==> web host0-{uuid} starting"),
        format!(" ==> web host0-{uuid} up"),
    ];
    assert_eq!(untimed, want);
    assert_eq!((lines[5], lines[6].starts_with("scale completed in ")), ("", true));
    let sent = &controller.changes()[0];
    assert!(sent.ends_with(r#"{"id":"","app":"","release":"","state":"pending","new_processes":{"web":3},"new_tags":{},"created_at":null,"updated_at":null}"#), "{sent}");
}

#[tokio::test]
async fn g26_to_g29_other_ways_to_scale() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let answer = |old: &str, new: &str| {
        format!(r#"{{"id":"{Q}","state":"pending","old_processes":{old},"new_processes":{new}}}"#)
    };
    controller.answer(
        &format!("PUT /apps/demo/scale/{R}"),
        &answer(r#"{"worker":1}"#, r#"{"worker":0}"#),
    );
    controller
        .answer(&format!("PUT /apps/demo/scale/{R}"), &answer(r#"{"web":3}"#, r#"{"web":3}"#));
    Person::check(
        &person.flynn("-a demo scale -n worker=0").await,
        0,
        &["1| scaling worker: 1=>0", "1| "],
    );
    Person::check(&person.flynn("-a demo scale -n web=3").await, 0, &["1| scaling ", "1| "]);
    let unknown = "2| ERROR: unknown process types: \"zz\", \"aa\"";
    Person::check(&person.flynn("-a demo scale zz=1 aa=2").await, 1, &[unknown]);
    let unreadable = "2| ERROR: could not parse quantity in \"web=x\"";
    Person::check(&person.flynn("-a demo scale web=x").await, 1, &[unreadable]);
}

#[tokio::test]
async fn g30_to_g33_releases_and_deployments() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let id = format!("1| ID:             {R}");
    let shown = [
        id.as_str(),
        "1| Artifact[0]:    flynn+https://images.gold.test/img1.json",
        "1| Process Types:  web, worker",
        "1| Created At:     2026-11-21 04:27:14.074354 +0000 UTC",
        "1| ENV[FOO]        bar",
        "1| META[k]         v",
    ];
    Person::check(&person.flynn("-a demo release show").await, 0, &shown);
    assert_eq!(person.flynn("-a demo release -q").await.out, format!("{R}\n"));
    let delete = format!("DELETE /apps/demo/releases/{R}");
    let refusal = r#"{"code":"validation_error","message":"cannot delete current app release","retry":false}"#;
    controller.answer_status(&delete, 400, refusal);
    let stream = format!("GET /events?app_id=demo&object_types=release_deletion&object_id={R}");
    controller.events(&stream, &[r#"{"id":1,"object_type":"app"}"#]);
    let refused = "2| validation_error: cannot delete current app release";
    Person::check(&person.flynn(&format!("-a demo release delete -y {R}")).await, 1, &[refused]);
    let stream = format!("GET /events?app_id=demo&object_types=release_deletion&object_id={R2}");
    controller.answer(&format!("DELETE /apps/demo/releases/{R2}"), "").events(
        &stream,
        &[r#"{"id":1,"object_type":"release_deletion","data":{"error":"","release_deletion":{"app":"","deleted_files":null}}}"#],
    );
    let deleted = format!("2| Deleted release {R2} (deleted 0 files)");
    Person::check(&person.flynn(&format!("-a demo release delete -y {R2}")).await, 0, &[&deleted]);
    let asked = person.flynn_answering(&format!("-a demo release delete {R}"), "maybe\nn\n").await;
    let question = format!(
        "Are you sure you want to delete release \"{R}\"? (yes/no): Please type 'yes' or 'no': "
    );
    assert_eq!((asked.out, asked.status), (question, 0));
    Person::check(&person.flynn("-a demo deployment timeout").await, 0, &["1| 120"]);
    Person::check(&person.flynn("-a demo deployment batch-size").await, 0, &["1| not set"]);
    let few = "2| Not enough releases to perform a rollback.";
    Person::check(&person.flynn("-a demo release rollback -y").await, 1, &[few]);
    let current = "2| Release id given is the current release.";
    Person::check(&person.flynn(&format!("-a demo release rollback -y {R}")).await, 1, &[current]);
}

#[tokio::test]
async fn g34_to_g37_routes() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let route = |kind: &str, more: &str| {
        format!(r#"{{"type":"{kind}","id":"{D}","service":"demo-web",{more}"leader":false}}"#)
    };
    controller
        .answer("POST /apps/demo/routes", &route("http", r#""domain":"a.gold.test","path":"/","#))
        .answer("POST /apps/demo/routes", &route("tcp", r#""port":3000,"#));
    Person::check(
        &person.flynn("-a demo route add http a.gold.test").await,
        0,
        &[&format!("1| http/{D}")],
    );
    let sent = &controller.changes()[0];
    assert!(
        sent.contains(r#""service":"demo-web""#) && sent.contains(r#""drain_backends":true"#),
        "{sent}"
    );
    let listening = format!("1| tcp/{D} listening on port 3000");
    Person::check(&person.flynn("-a demo route add tcp").await, 0, &[&listening]);
    controller.answer(
        "GET /apps/demo/routes",
        &format!(
            "[{},{}]",
            route("tcp", r#""port":3000,"#),
            route("http", r#""domain":"a.gold.test","path":"/","#)
        ),
    );
    let rows = [
        format!("1| ROUTE             SERVICE   ID{}STICKY  LEADER  PATH", " ".repeat(41)),
        format!("1| tcp:3000          demo-web  tcp/{D}           false   "),
        format!("1| http:a.gold.test  demo-web  http/{D}  false   false   /"),
    ];
    Person::check(&person.flynn("-a demo route").await, 0, &rows.each_ref().map(String::as_str));
    let both = "2| Both the TLS certificate AND private key need to be specified";
    Person::check(&person.flynn("-a demo route add http -c x b.com").await, 1, &[both]);
    let kind = "2| Route type xx not supported.";
    Person::check(&person.flynn("-a demo route update xx/1 --sticky").await, 1, &[kind]);
    controller.answer_status(
        "DELETE /apps/demo/routes/http/z",
        409,
        r#"{"code":"conflict","message":"Duplicate route","retry":false}"#,
    );
    Person::check(
        &person.flynn("-a demo route remove http/z").await,
        1,
        &["2| conflict: Duplicate route"],
    );
}

#[tokio::test]
async fn g38_g39_providers_and_resources() {
    let controller = demo().await;
    let person = Person::with(&controller);
    controller.answer("GET /providers", "[]");
    Person::check(&person.flynn("provider").await, 0, &[]);
    controller.answer("POST /providers", r#"{"name":"tp"}"#);
    let created = "2| Created provider tp.";
    Person::check(&person.flynn("provider add tp http://127.0.0.1:3950").await, 0, &[created]);
    controller.answer(
        "POST /providers/tp/resources",
        &format!(r#"{{"id":"{D}","provider":"{F}","env":{{"URL":"x"}}}}"#),
    );
    let created = format!("2| Created resource {D} and release {R2}.");
    Person::check(&person.flynn("-a demo resource add tp").await, 0, &[&created]);
    controller
        .answer("GET /providers/tp", &format!(r#"{{"id":"{F}","name":"tp"}}"#))
        .answer("GET /apps/demo/resources", "[]");
    let many = "2| App has more than one resource for tp, specify resource ID";
    Person::check(&person.flynn("-a demo resource remove tp").await, 1, &[many]);
}

#[tokio::test]
async fn g40_log_lines() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let line = |job: &str, kind: &str, stream: &str, msg: &str, second: u32| {
        format!(
            r#"{{"host_id":"host0","job_id":"host0-{job}","msg":"{msg}","process_type":"{kind}","source":"app","stream":"{stream}","timestamp":"2021-01-01T00:00:0{second}.1Z"}}"#
        )
    };
    let plain =
        [line("j0", "web", "stdout", "hello", 0), line("j1", "web", "stderr", "oops", 1)].concat();
    let plain = plain + &line("j3", "", "stdout", "oneoff", 3);
    controller.answer("GET /apps/web/log?stream_types=stdout%2Cstderr", &plain);
    let lines = [
        "1| 2021-01-01T00:00:00.100000Z app[web.host0-j0]: hello",
        "1| 2021-01-01T00:00:01.100000Z app[web.host0-j1]: oops",
        "1| 2021-01-01T00:00:03.100000Z app[.host0-j3]: oneoff",
    ];
    Person::check(&person.flynn("-a web log").await, 0, &lines);
    let init = plain + "\n" + &line("j0", "web", "init", "init line", 4) + "\n";
    controller.answer("GET /apps/web/log?lines=3&stream_types=stdout%2Cstderr%2Cinit", &init);
    let lines = ["1| hello", "1| oneoff", "2| oops", "2| init line"];
    Person::check(&person.flynn("-a web log -r -s -i -n 3").await, 0, &lines);
    let bad = "2| strconv.Atoi: parsing \"x\": invalid syntax";
    Person::check(&person.flynn("-a web log -n x").await, 1, &[bad]);
    controller.answer("GET /apps/web/log?process_type=&stream_types=stdout%2Cstderr", "");
    Person::check(&person.flynn("-a web log -t ''").await, 0, &[]);
}

#[tokio::test]
async fn a_followed_log_that_breaks_goes_on_after_the_last_line() {
    let controller = demo().await;
    let person = Person::with(&controller);
    let line = |job: &str, second: u32| {
        format!(
            r#"{{"job_id":"host0-{job}","msg":"{job} {second}","process_type":"web","source":"app","stream":"stdout","timestamp":"2021-01-01T00:00:0{second}Z"}}"#
        )
    };
    let call =
        |lines: &str| format!("GET /apps/web/log?follow=true{lines}&stream_types=stdout%2Cstderr");
    let first = line("a", 2) + "\n" + &line("a", 2);
    controller.answer(&call("&lines=2"), &(first.clone() + "\n{\"msg\":\"cut"));
    let away =
        r#"{"code":"service_unavailable","message":"no log aggregator is there","retry":false}"#;
    controller.answer_status(&call("&lines=10000"), 503, away);
    let all = [line("b", 1), first, line("b", 3), line("a", 4)].concat();
    controller.answer(&call("&lines=10000"), &all);
    controller.answer(&call("&lines=10000"), &(all + &line("a", 4)));
    controller.answer_status(
        &call("&lines=10000"),
        404,
        r#"{"code":"not_found","message":"gone"}"#,
    );
    let done = person.flynn("-a web log -f -r -n 2").await;
    let gone = "2| not_found: gone";
    Person::check(&done, 1, &["1| a 2", "1| a 2", "1| b 3", "1| a 4", "1| a 4", gone]);
}

#[tokio::test]
async fn g41_kills() {
    let controller = demo().await;
    let person = Person::with(&controller);
    controller.answer("DELETE /apps/demo/jobs/host0-1", "");
    let lines = [
        "2| Job host0-1 killed.",
        "2| ERROR: could not kill job nope-1: controller: resource not found",
        "2| Could not kill all jobs.",
    ];
    Person::check(&person.flynn("-a demo kill host0-1 nope-1").await, 1, &lines);
}

#[tokio::test]
async fn metadata_is_replaced_as_a_whole() {
    let controller = demo().await;
    let person = Person::with(&controller);
    Person::check(&person.flynn("-a demo meta").await, 0, &["1| KEY  VALUE", "1| k    v"]);
    controller.answer("POST /apps/demo/meta", r#"{"name":"demo"}"#);
    Person::check(&person.flynn("-a demo meta set a=b").await, 0, &[]);
    Person::check(&person.flynn("-a demo meta unset k").await, 0, &[]);
    let sent = [
        r#"POST /apps/demo/meta {"meta":{"a":"b","k":"v"}}"#,
        r#"POST /apps/demo/meta {"meta":{}}"#,
    ];
    assert_eq!(controller.changes(), sent);
}

#[tokio::test]
async fn a_failed_deployment_says_why() {
    let controller = demo().await;
    let person = Person::with(&controller);
    controller.answer("POST /apps/slow/deploy", &format!(r#"{{"id":"{D}","status":"pending"}}"#));
    controller.answer("GET /apps/slow", &format!(r#"{{"id":"{A}","name":"slow"}}"#));
    let stream = format!("GET /events?app_id=slow&object_types=deployment&object_id={D}&past=true");
    let told = |id: u32, status: &str, error: &str| {
        format!(
            r#"{{"id":{id},"object_type":"deployment","data":{{"status":"{status}","error":"{error}"}}}}"#
        )
    };
    controller.events(
        &stream,
        &[&told(1, "pending", ""), &told(2, "failed", "web job failed to start: boom")],
    );
    let why = "2| web job failed to start: boom";
    Person::check(&person.flynn("-a slow env set A=1").await, 1, &[why]);
}

#[tokio::test]
async fn deleting_an_app_waits_for_its_end() {
    let controller = demo().await;
    let person = Person::with(&controller);
    controller.answer("DELETE /apps/demo", "").events(
        "GET /events?app_id=demo&object_types=app_deletion",
        &[r#"{"id":3,"object_type":"app_deletion","data":{"error":"","app_deletion":{"app":"","deleted_routes":[{"type":"http"}],"deleted_releases":null,"deleted_resources":null}}}"#],
    );
    let deleted =
        "2| Deleted demo (removed 1 routes, deleted 0 releases, deprovisioned 0 resources)";
    Person::check(&person.flynn("-a demo delete --yes").await, 0, &[deleted]);
    let asked = person.flynn_answering("-a demo delete", "n\n").await;
    assert_eq!((asked.status, asked.err.as_str()), (0, ""));
    let ended = person.flynn_answering("-a demo delete", "").await;
    assert!(ended.status == 1 && ended.err.starts_with("no answer"), "{ended:?}");
}

#[tokio::test]
async fn the_key_travels_with_every_request_and_errors_have_their_code() {
    let controller = demo().await;
    let person = Person::with(&controller);
    person.write_rc(&person.read_rc().replace("\"kk\"", "\"wrong\""));
    let said = person.flynn("apps").await;
    assert!(said.status == 1 && said.err.contains("401"), "{said:?}");
    assert_eq!(controller.asked(), ["GET /apps"]);
}
