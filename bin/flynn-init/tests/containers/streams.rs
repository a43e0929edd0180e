//! What goes into a job and comes out of it, byte for byte.

use host_container::client::Client;
use host_container::protocol::{ClientFrame, Notice, OUTPUT_END, Order, Stream, SupervisorFrame};
use kit_units::Bytes;

use crate::lifecycle::until_running;
use crate::support::{Job, collect, eventually, follow, until, until_output};

const MIB: usize = 1 << 20;

fn lines(count: usize) -> Vec<u8> {
    (0..).flat_map(|number: u64| format!("{number:015}\n").into_bytes()).take(count).collect()
}

#[test]
fn ten_megabytes_go_in_and_come_out_unchanged() {
    let mut job =
        Job::new(&["copy"]).with(|spec| (spec.open_stdin, spec.resume_at_once) = (true, false));
    job.launch();
    let client = job.connect();
    let mut writer = job.connect();
    writer.send(Order::Resume).unwrap();
    let sent = lines(10 * MIB + 3);
    let feed = sent.clone();
    let feeder = std::thread::spawn(move || {
        for piece in feed.chunks(100_000) {
            writer.write(&ClientFrame::Stdin(piece.to_vec())).unwrap();
        }
        writer.write(&ClientFrame::StdinEnd).unwrap();
        // Answers are read too, or they would pile up.
        while writer.receive().unwrap().is_some() {}
    });
    let outcome = follow(client);
    feeder.join().unwrap();
    assert_eq!(outcome.exit.code, Some(0));
    assert!(outcome.stdout == sent, "{} of {} bytes", outcome.stdout.len(), sent.len());
}

#[test]
fn a_slow_follower_holds_the_program_up_instead_of_losing_its_output() {
    let mut job = Job::new(&["pour", &(20 * MIB).to_string()])
        .with(|spec| (spec.resume_at_once, spec.spool_bytes) = (false, Bytes::mib(1)));
    job.launch();
    let mut client = job.connect();
    client.send(Order::OpenOutput { stdout: Some(0), stderr: Some(0), init: Some(0) }).unwrap();
    client.send(Order::Resume).unwrap();
    let mut control = job.connect();
    let mut last = (0, 0);
    eventually("the program stands still", || {
        let end = stdout_end(&mut control);
        last = if end == last.0 { (end, last.1 + 1) } else { (end, 0) };
        end > 0 && last.1 == 20
    });
    assert!(last.0 < 20 * MIB as u64, "it went on");
    let outcome = collect(client);
    assert!(outcome.stdout == lines(20 * MIB), "{} bytes", outcome.stdout.len());
}

fn stdout_end(control: &mut Client) -> u64 {
    control.send(Order::GetState).unwrap();
    let frame = until(control, |frame| matches!(frame, SupervisorFrame::Notice(Notice::State(_))));
    let SupervisorFrame::Notice(Notice::State(report)) = frame else { unreachable!() };
    report.streams[0].end
}

#[test]
fn output_is_read_on_from_where_a_vanished_client_stopped() {
    let mut job =
        Job::new(&["pour", &(3 * MIB).to_string()]).with(|spec| spec.resume_at_once = false);
    job.launch();
    let mut client = job.connect();
    client.send(Order::OpenOutput { stdout: Some(0), stderr: None, init: None }).unwrap();
    client.send(Order::Resume).unwrap();
    let mut got = Vec::new();
    until(&mut client, |frame| {
        if let SupervisorFrame::Output { bytes, .. } = frame {
            got.extend_from_slice(bytes);
        }
        got.len() > MIB / 2
    });
    drop(client);
    let want = lines(3 * MIB);
    let rest = match Client::connect(&job.spec.job_dir, crate::support::PATIENCE) {
        Ok(client) => read_from(client, got.len() as u64),
        Err(_) => job.on_disk().stdout.split_off(got.len()),
    };
    got.extend(rest);
    assert!(got == want, "{} of {} bytes", got.len(), want.len());
}

fn read_from(mut client: Client, offset: u64) -> Vec<u8> {
    client.send(Order::OpenOutput { stdout: Some(offset), stderr: None, init: None }).unwrap();
    let mut got = Vec::new();
    loop {
        match client.receive().unwrap().unwrap() {
            SupervisorFrame::Output { bytes, .. } => got.extend(bytes),
            SupervisorFrame::Notice(Notice::EndOfStream { stream: Stream::Stdout, at }) => {
                assert_eq!(at, offset + got.len() as u64);
                return got;
            }
            SupervisorFrame::Notice(_) => {}
        }
    }
}

#[test]
fn what_nobody_followed_is_dropped_from_the_front_and_counted() {
    let mut job =
        Job::new(&["pour", &(2 * MIB).to_string()]).with(|spec| spec.spool_bytes = Bytes::kib(256));
    job.launch();
    job.wait();
    let outcome = job.on_disk();
    let want = lines(2 * MIB);
    assert!(outcome.stdout.len() <= 256 * 1024 && outcome.stdout.len() >= 192 * 1024);
    assert!(want.ends_with(&outcome.stdout));

    let mut job = Job::new(&["pour", &(2 * MIB).to_string()])
        .with(|spec| (spec.spool_bytes, spec.open_stdin) = (Bytes::kib(256), true));
    job.spec.args = ["jobprobe", "wait"].map(str::to_owned).into();
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    client
        .send(Order::OpenOutput { stdout: Some(OUTPUT_END), stderr: None, init: Some(0) })
        .unwrap();
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
    until(&mut client, |frame| {
        matches!(frame, SupervisorFrame::Notice(Notice::EndOfStream { stream: Stream::Stdout, .. }))
    });
}

#[test]
fn dropped_bytes_are_told_to_who_asks_for_them() {
    let mut job = Job::new(&["pour", &(2 * MIB).to_string()])
        .with(|spec| (spec.spool_bytes, spec.tty, spec.open_stdin) = (Bytes::kib(64), true, true));
    // The terminal keeps the supervisor's end open until the program has ended, which it does only
    // after this connection: so one control connection holds the supervisor.
    job.spec.resume_at_once = false;
    job.launch();
    let mut control = job.connect();
    control.send(Order::Resume).unwrap();
    until(
        &mut control,
        |frame| matches!(frame, SupervisorFrame::Notice(Notice::State(report)) if report.state.has_ended()),
    );
    let outcome = job.on_disk();
    assert!(outcome.stdout.len() <= 64 * 1024);
}

#[test]
fn standard_streams_can_be_opened_by_name_by_any_user() {
    for uid in [0, 5000] {
        let mut job = Job::new(&["reopen"]).with(|spec| {
            (spec.uid, spec.gid, spec.open_stdin, spec.resume_at_once) = (uid, uid, true, false)
        });
        job.launch();
        let mut client = job.connect();
        client.write(&ClientFrame::StdinEnd).unwrap();
        client.send(Order::Resume).unwrap();
        // Input that comes before the program is there is kept for it.
        client.write(&ClientFrame::StdinEnd).unwrap();
        let outcome = follow(client);
        assert_eq!(
            outcome.text(),
            "to stdout\n0 bytes from stdin\n",
            "uid {uid}: {}",
            outcome.init
        );
        assert_eq!(outcome.stderr, b"to stderr\n");
    }
}

#[test]
fn input_of_a_client_that_has_left_still_arrives() {
    let mut job =
        Job::new(&["copy"]).with(|spec| (spec.open_stdin, spec.resume_at_once) = (true, false));
    job.launch();
    let mut client = job.connect();
    let mut writer = job.connect();
    let sent = lines(3 * MIB);
    let feed = sent.clone();
    let feeder = std::thread::spawn(move || {
        writer.write(&ClientFrame::Stdin(feed)).unwrap();
        writer.write(&ClientFrame::StdinEnd).unwrap();
    });
    client.send(Order::Resume).unwrap();
    let outcome = follow(client);
    feeder.join().unwrap();
    assert!(outcome.stdout == sent, "{} of {} bytes", outcome.stdout.len(), sent.len());
}

#[test]
fn without_standard_input_there_is_nothing_to_read() {
    let outcome = Job::new(&["copy"]).run();
    assert_eq!((outcome.exit.code, outcome.stdout.len()), (Some(0), 0));
}

#[test]
fn a_terminal_has_the_size_it_was_given() {
    let mut job = Job::new(&["terminal"])
        .with(|spec| (spec.tty, spec.open_stdin, spec.uid) = (true, true, 1000));
    job.launch();
    let mut client = job.connect();
    client.send(Order::OpenOutput { stdout: Some(0), stderr: None, init: None }).unwrap();
    until_output(&mut client, "tty true true true");
    client.call(Order::Resize { height: 24, width: 80 }, drop).unwrap().unwrap();
    client.write(&ClientFrame::Stdin(b"typed\n".to_vec())).unwrap();
    let text = follow(client).text();
    assert!(text.contains("size 24x80 after \"typed\""), "{text}");
    assert!(text.contains("controlling true console true"), "{text}");
}

#[test]
fn a_job_without_terminal_has_no_size() {
    let mut job = Job::new(&["wait"]);
    job.launch();
    let mut client = job.connect();
    until_running(&mut client);
    client.call(Order::Resize { height: 1, width: 1 }, drop).unwrap().unwrap_err();
    client.call(Order::Signal { signal: 9 }, drop).unwrap().unwrap();
}
