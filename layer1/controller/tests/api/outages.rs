//! Without a database the controller listens and says what is the matter; when the database comes, it
//! works without a restart.

use controller_api::App;
use kit_http::Request;
use kit_pg::test_server::TestDatabase;
use kit_tasks::Tasks;

use crate::support::{DEADLINE, KEY, client, config, send};

#[tokio::test]
async fn it_listens_without_a_database_and_works_once_there_is_one() {
    let database = TestDatabase::create().await;
    let tasks = Tasks::root("test");
    let mut first = config(&database);
    first.database = first.database.database("later");
    let running = controller::start(first, &tasks).await.unwrap();
    let http = client(&running, KEY);
    let answer = send(&http, Request::get("/apps")).await;
    let want = r#"503 {"code":"service_unavailable","message":"the database is not available yet, try again","retry":true}"#;
    assert_eq!(answer.line(), want);
    assert_eq!(send(&client(&running, "wrong"), Request::get("/apps")).await.status, 401);
    assert_eq!(send(&http, Request::get("/ca-cert")).await.status, 200);
    let status = send(&http, Request::get("/.well-known/status")).await;
    assert_eq!(status.status, 500);
    assert!(status.body.contains("unhealthy"), "{}", status.body);

    let admin = database.pool().client().await.unwrap();
    admin.batch_execute("CREATE DATABASE later").await.unwrap();
    let url = format!("http://{}", running.addr());
    let patient = kit_http::Client::builder(&url).key(KEY).retry_for(DEADLINE).build().unwrap();
    let api = controller_api::Client::from_http(patient);
    api.create_app(&App::named("demo")).await.unwrap();

    // A second instance on the same database finds the schema there.
    let mut second = config(&database);
    second.database = second.database.database("later");
    let second = controller::start(second, &tasks).await.unwrap();
    let url = format!("http://{}", second.addr());
    let patient = kit_http::Client::builder(&url).key(KEY).retry_for(DEADLINE).build().unwrap();
    let apps = controller_api::Client::from_http(patient).apps().await.unwrap();
    assert_eq!(apps[0].name, "demo");
    tasks.shutdown(DEADLINE).await;
}
