//! The population of the specification's golden outputs: app `demo` with a release, its formation and
//! jobs.

use crate::controller::Controller;

pub(crate) const A: &str = "0a000000-0000-4000-8000-000000000001";
pub(crate) const R: &str = "0b000000-0000-4000-8000-000000000001";
pub(crate) const R2: &str = "0b000000-0000-4000-8000-000000000002";
pub(crate) const F: &str = "0c000000-0000-4000-8000-000000000001";
pub(crate) const D: &str = "0d000000-0000-4000-8000-000000000001";
pub(crate) const Q: &str = "0e000000-0000-4000-8000-000000000001";

/// A job's UUID.
pub(crate) fn job(n: u32) -> String {
    format!("0f000000-0000-4000-8000-{n:012}")
}

const RES: &str = r#"{"cpu":{"request":1000,"limit":1000},"max_fd":{"request":10000,"limit":10000},"memory":{"request":1073741824,"limit":1073741824},"temp_disk":{"request":104857600,"limit":104857600}}"#;

/// The current release's JSON.
pub(crate) fn release() -> String {
    format!(
        r#"{{"id":"{R}","app_id":"{A}","artifacts":["{F}"],"env":{{"FOO":"bar"}},"meta":{{"k":"v"}},"processes":{{"web":{{"args":["/bin/web"],"env":{{"WEBVAR":"1"}},"resources":{RES}}},"worker":{{"args":["/bin/worker"],"resources":{RES}}}}},"created_at":"2026-11-21T04:27:14.074354Z"}}"#
    )
}

/// A controller with app `demo`.
pub(crate) async fn demo() -> Controller {
    let controller = Controller::start().await;
    let at = "2026-11-21T04:27:14.074354Z";
    let row = |n: u32, kind: &str, state: &str, host: bool, second: u32| {
        let uuid = job(n);
        let id =
            if host { format!(r#""id":"host0-{uuid}","host_id":"host0","#) } else { String::new() };
        let args = if kind.is_empty() { "/bin/sh".to_owned() } else { format!("/bin/{kind}") };
        format!(
            r#"{{{id}"uuid":"{uuid}","app":"{A}","release":"{R}","type":"{kind}","state":"{state}","args":["{args}","-x"],"created_at":"2020-11-21T04:27:{second:02}Z"}}"#
        )
    };
    let jobs = [
        row(4, "worker", "pending", false, 4),
        row(3, "web", "starting", true, 3),
        row(2, "", "down", true, 2),
        row(1, "web", "up", true, 1),
    ];
    controller
        .answer("GET /apps", &format!(r#"[{{"id":"{A}","name":"demo","meta":{{}}}}]"#))
        .answer("GET /apps/demo", &format!(r#"{{"id":"{A}","name":"demo","meta":{{"k":"v"}},"deploy_timeout":120}}"#))
        .answer("GET /apps/demo/release", &release())
        .answer(&format!("GET /releases/{R}"), &release())
        .answer("GET /apps/demo/releases", &format!("[{}]", release()))
        .answer(&format!("GET /artifacts/{F}"), &format!(r#"{{"id":"{F}","type":"flynn","uri":"https://images.gold.test/img1.json"}}"#))
        .answer("GET /apps/demo/jobs", &format!("[{}]", jobs.join(",")))
        .answer(&format!("GET /apps/demo/formations/{R}"), &format!(r#"{{"app":"{A}","release":"{R}","processes":{{"web":1}}}}"#))
        .answer("GET /apps/demo/formations", &format!(r#"[{{"app":"{A}","release":"{R}","processes":{{"web":1,"worker":0}}}}]"#))
        .answer("POST /releases", &format!(r#"{{"id":"{R2}"}}"#))
        .answer("POST /apps/demo/deploy", &format!(r#"{{"id":"{D}","app":"{A}","new_release":"{R2}","status":"complete","finished_at":"{at}"}}"#));
    controller
}
