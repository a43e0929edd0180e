//! A look at a job that runs and is not up: what does its port say to its health check? Asked once, when
//! a deployment has failed, so that its reason is the reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use controller_api::{HealthCheck, Release};
use kit_http::Request;
use kit_ids::{AppId, HostId, JobId};
use kit_pg::GenericClient;

use super::{Worker, words};
use crate::failure::Answer;
use crate::rows;

/// As long as a check of the host's.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What jobs of each type still owe, in words, as far as it could be found out.
pub(super) async fn owed(
    worker: &Worker,
    db: &impl GenericClient,
    app: &AppId,
    release: &Release,
) -> Answer<BTreeMap<String, String>> {
    let mut owed = words::owed(release);
    for (process_type, job, host) in starting(db, app, release).await? {
        let ports = release.processes.get(&process_type).map(|process| &process.ports);
        let checked = ports.into_iter().flatten().find_map(|port| {
            let check = port.service.as_ref()?.check.as_ref()?;
            (port.port > 0).then_some((port.port, check))
        });
        let Some((port, check)) = checked else { continue };
        let Some(ip) = address(worker, &host, &job).await else { continue };
        if let Some(answer) = ask(SocketAddr::new(ip, port), check).await {
            owed.insert(process_type, answer);
        }
    }
    Ok(owed)
}

/// One starting job of each type.
async fn starting(
    db: &impl GenericClient,
    app: &AppId,
    release: &Release,
) -> Answer<Vec<(String, JobId, HostId)>> {
    let query = "SELECT DISTINCT ON (type) type, cluster_id, host_id FROM jobs \
         WHERE app_id = $1::text::uuid AND release_id = $2::text::uuid AND state = 'starting' \
           AND type <> '' AND cluster_id IS NOT NULL AND host_id IS NOT NULL \
         ORDER BY type, created_at";
    let id = rows::text_of(release.id.as_ref()).unwrap_or_default();
    let found = db.query(query, &[&app.as_str(), &id]).await?;
    let job = |row| {
        let (job, host) = (rows::parsed(row, "cluster_id")?, rows::parsed(row, "host_id")?);
        Ok((rows::text(row, "type")?, job, host))
    };
    found.iter().map(job).collect()
}

async fn address(worker: &Worker, host: &HostId, job: &JobId) -> Option<IpAddr> {
    let host = worker.0.hosts.find(host).await.ok()??;
    host.client.job(job).await.ok()?.internal_ip
}

/// None when the answer would have passed.
async fn ask(addr: SocketAddr, check: &HealthCheck) -> Option<String> {
    let connected = tokio::time::timeout(TIMEOUT, tokio::net::TcpStream::connect(addr)).await;
    if !matches!(connected, Ok(Ok(_))) {
        return Some(format!("nothing accepts connections on its port {}", addr.port()));
    }
    if check.kind != "http" {
        return None;
    }
    let path = if check.path.is_empty() { "/" } else { &check.path };
    let wanted = if check.status == 0 { 200 } else { check.status };
    let asked = format!("its health check GET {path} on port {}", addr.port());
    let client = kit_http::Client::builder(&format!("http://{addr}")).request_timeout(TIMEOUT);
    let answer = client.build().ok()?.send_raw(Request::get(path)).await;
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(status) if status == wanted && check.expect_text.is_empty() => None,
        Ok(status) if status == wanted => Some(format!("{asked} lacks the expected text")),
        Ok(status) => Some(format!("{asked} is answered with status {status} instead of {wanted}")),
        Err(_) => Some(format!("{asked} is not answered")),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_port_is_asked_what_its_check_asks() {
        let tasks = kit_tasks::Tasks::root("test");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = axum::Router::new()
            .route("/broken", get(async || http::StatusCode::INTERNAL_SERVER_ERROR))
            .route("/well", get(async || "well"));
        let addr = kit_http::serve(&tasks, listener, kit_http::finish(router)).unwrap().addr();
        let port = addr.port();
        let check = |kind: &str, path: &str| HealthCheck {
            kind: kind.to_owned(),
            path: path.to_owned(),
            ..HealthCheck::default()
        };
        let broken = ask(addr, &check("http", "/broken")).await.unwrap();
        let want = "is answered with status 500 instead of 200";
        assert_eq!(broken, format!("its health check GET /broken on port {port} {want}"));
        assert_eq!(ask(addr, &check("http", "/well")).await, None);
        assert_eq!(ask(addr, &check("tcp", "")).await, None);
        tasks.shutdown(Duration::from_secs(30)).await;
        // A port that is taken and at which nobody listens; one that is free may be anybody's next.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (addr, port) = (taken.local_addr().unwrap(), taken.local_addr().unwrap().port());
        let deaf = ask(addr, &check("http", "/")).await.unwrap();
        assert_eq!(deaf, format!("nothing accepts connections on its port {port}"));
    }
}
