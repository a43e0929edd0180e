//! Whole lives of jobs: events, logs, attach, restarts of daemon and job.

use host_api::frame::{Greeting, ServerFrame, Stream};
use host_api::{
    ActiveJob, AttachFlags, AttachReq, Attachment, EventKind, JobEvents, JobStatus,
    META_PREDECESSOR, META_RESTARTS, VolumeBinding, VolumeInfo,
};

use crate::fake::{Machine, PATIENCE};

async fn kinds_until(events: &mut JobEvents, last: EventKind) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    while kinds.last() != Some(&last) {
        let next = tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap();
        kinds.push(next.unwrap().unwrap().event);
    }
    kinds
}

/// Everything an attached job prints, and its last frame.
async fn read_all(attached: Attachment) -> (String, Option<ServerFrame>) {
    let (mut reader, _writer) = attached.split();
    let (mut text, mut last) = (String::new(), None);
    let read = async {
        while let Some(frame) = reader.next_frame().await.unwrap() {
            if let ServerFrame::Data(_, bytes) = &frame {
                text.push_str(std::str::from_utf8(bytes).unwrap());
            }
            last = Some(frame);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    (text, last)
}

const ALL: AttachFlags = AttachFlags(1 | 2 | 8 | 16);

#[tokio::test]
async fn a_job_runs_is_logged_and_ends_in_order() {
    let machine = Machine::new();
    let host = machine.start().await;
    let job = machine.job("host1-one", &["say", "hello\nwor", "say", "ld\n", "exit", "42"]).await;
    let mut events = host.client.events(Some(&job.id)).await.unwrap();
    // Before the job is there: it waits for us, so nothing is lost.
    let early = AttachReq::new(&job.id, AttachFlags::STDOUT | AttachFlags::STREAM);
    let mut early = host.client.attach(&early).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    while early.greeting().await.unwrap() == Greeting::Waiting {}
    assert_eq!(read_all(early).await, ("hello\nworld\n".to_owned(), Some(ServerFrame::Exit(42))));
    use EventKind::{Cleanup, Create, Start, Stop};
    assert_eq!(kinds_until(&mut events, Cleanup).await, [Create, Start, Stop, Cleanup]);
    let active = host.client.job(&job.id).await.unwrap();
    assert_eq!(
        (active.status, active.exit_status, active.pid),
        (JobStatus::Crashed, Some(42), None)
    );
    assert_eq!(
        machine.supervisors.specs()[0].env.iter().find(|(key, _)| key == "HOSTNAME").unwrap().1,
        "one"
    );
    // History of an ended job ends with the ends of the streams.
    let late = host.client.attach(&AttachReq::new(&job.id, ALL)).await.unwrap();
    let (text, last) = read_all(late.established().await.unwrap()).await;
    assert_eq!(text, "hello\nworld\n");
    assert_eq!(last, Some(ServerFrame::Data(Stream::Stderr, bytes::Bytes::new())));
    host.stop().await;
}

#[tokio::test]
async fn a_job_outlives_its_daemon_and_its_log_has_no_gap() {
    let machine = Machine::new();
    let host = machine.start().await;
    let job = machine.job("host1-two", &["say", "before\nhal", "wait", ""]).await;
    let mut events = host.client.events(Some(&job.id)).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    kinds_until(&mut events, EventKind::Start).await;
    host.stop().await;
    let host = machine.start().await;
    let active = host.client.job(&job.id).await.unwrap();
    assert_eq!(active.status, JobStatus::Running);
    let attached = host.client.attach(&AttachReq::new(&job.id, ALL)).await.unwrap();
    let attached = attached.established().await.unwrap();
    host.client.stop_job(&job.id).await.unwrap();
    assert_eq!(read_all(attached).await, ("before\nhal\n".to_owned(), Some(ServerFrame::Exit(0))));
    let active = host.client.job(&job.id).await.unwrap();
    assert!(active.force_stop && active.status == JobStatus::Done);
    host.stop().await;
}

#[tokio::test]
async fn a_job_of_the_host_is_restarted_and_names_its_predecessor() {
    let machine = Machine::new();
    let host = machine.start().await;
    let mut job = machine.job("host1-three", &["exit", "1"]).await;
    job.resurrect = true;
    let mut events = host.client.events(None).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    let mut created = Vec::new();
    while created.len() < 3 {
        let event =
            tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap().unwrap().unwrap();
        if event.event == EventKind::Create {
            created.push(event.job.unwrap().job);
        }
    }
    for (number, pair) in created.windows(2).enumerate() {
        assert_eq!(pair[1].meta(META_PREDECESSOR), Some(pair[0].id.as_str()));
        assert_eq!(pair[1].meta(META_RESTARTS), Some((number + 1).to_string().as_str()));
    }
    host.stop().await;
}

#[tokio::test]
async fn a_host_that_went_down_starts_its_own_jobs_again_and_no_others() {
    let machine = Machine::new();
    let host = machine.start().await;
    let mut own = machine.job("host1-own", &["wait", ""]).await;
    own.resurrect = true;
    let other = machine.job("host1-other", &["wait", ""]).await;
    for job in [&own, &other] {
        let mut events = host.client.events(Some(&job.id)).await.unwrap();
        host.client.add_job(job).await.unwrap();
        kinds_until(&mut events, EventKind::Start).await;
    }
    host.go_down().await;
    let host = machine.start().await;
    let predecessors = || async {
        let jobs = host.client.active_jobs().await.unwrap();
        let predecessor = |active: &ActiveJob| active.job.meta(META_PREDECESSOR).map(str::to_owned);
        jobs.values().map(predecessor).collect::<Vec<_>>()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while predecessors().await != [Some(own.id.to_string())] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", predecessors().await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!host.client.job(&own.id).await.unwrap().force_stop);
    assert!(host.client.job(&other.id).await.unwrap().force_stop);
    host.go_down().await;
}

#[tokio::test]
async fn a_volume_that_ends_with_its_job_is_there_for_the_successor() {
    let machine = Machine::new();
    let host = machine.start().await;
    let volume = host.client.create_volume("default", &VolumeInfo::default()).await.unwrap();
    let mut job = machine.job("host1-tmp", &["exit", "1"]).await;
    job.resurrect = true;
    job.config.volumes = vec![VolumeBinding {
        target: "/tmp".to_owned(),
        volume: volume.id.clone(),
        writeable: true,
        delete_on_stop: true,
    }];
    let mut events = host.client.events(None).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    let mut started = 0;
    while started < 3 {
        let event =
            tokio::time::timeout(PATIENCE, events.next_event()).await.unwrap().unwrap().unwrap();
        assert_ne!(event.event, EventKind::Error, "{event:?}");
        if event.event == EventKind::Start {
            started += 1;
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn an_unknown_partition_is_one_create_and_one_error() {
    let machine = Machine::new();
    let host = machine.start().await;
    let mut job = machine.job("host1-four", &["exit", "0"]).await;
    job.partition = "nonexistent".to_owned();
    let mut events = host.client.events(Some(&job.id)).await.unwrap();
    host.client.add_job(&job).await.unwrap();
    assert_eq!(
        kinds_until(&mut events, EventKind::Error).await,
        [EventKind::Create, EventKind::Error]
    );
    let active = host.client.job(&job.id).await.unwrap();
    assert_eq!(active.error.as_deref(), Some("host: invalid job partition \"nonexistent\""));
    let refused =
        host.client.attach(&AttachReq::new(&job.id, ALL)).await.unwrap().established().await;
    assert_eq!(refused.unwrap_err().to_string(), "host: invalid job partition \"nonexistent\"");
    host.stop().await;
}
