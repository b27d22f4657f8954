//! The downloader, against a server that misbehaves.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gradcon::Error;
use gradcon::data::download::{Event, Patience, Remote, fetch};
use gradcon::data::hash::md5_file;
use tempfile::TempDir;

use super::{error_with, temp};

/// How the server answers one request.
#[derive(Clone)]
enum Reply {
    /// As it should, with ranges.
    Whole,
    /// As it should, but every request gets the whole file.
    WholeWithoutRanges,
    /// The headers promise everything, the connection closes after so many bytes.
    Cut(usize),
    /// After so many bytes nothing comes any more.
    Stall(usize),
    /// A byte now and then, as long as somebody listens.
    Trickle,
    /// No length is given, and the bytes don't end as long as somebody listens.
    Endless,
    /// The headers promise so many bytes more than the file has.
    Longer(usize),
    /// The first byte sent is wrong.
    Corrupt,
    /// From another position than the one asked for.
    WrongRange,
    /// Only this status.
    Status(u16),
    /// Go there.
    Redirect(String),
}

struct Server {
    url: String,
    /// The `Range` header of each request, or nothing, in order.
    ranges: Arc<Mutex<Vec<String>>>,
}

/// Serves `content`, one reply a connection; afterwards nobody listens any more.
fn serve(content: &[u8], replies: Vec<Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a local port");
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let (content, log) = (content.to_vec(), Arc::clone(&ranges));
    std::thread::spawn(move || {
        for reply in replies {
            let (stream, _) = listener.accept().expect("a connection");
            answer(stream, &content, &reply, &log);
        }
    });
    Server { url, ranges }
}

fn answer(mut stream: TcpStream, content: &[u8], reply: &Reply, log: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    assert!(request.starts_with("get /file.bin http/1.1"), "{request}");
    let range =
        request.lines().find_map(|line| line.strip_prefix("range: ")).unwrap_or("").to_string();
    log.lock().unwrap().push(range.clone());
    let from: usize =
        range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let mut send = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
        // The client may hang up first: that is its business.
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    };
    let ranged = from > 0 && !matches!(reply, Reply::WholeWithoutRanges);
    if ranged && from >= content.len() {
        return send("416 Range Not Satisfiable", "Content-Length: 0\r\n", b"");
    }
    let start = if ranged { from } else { 0 };
    let said = if matches!(reply, Reply::WrongRange) { start + 1 } else { start };
    let status = if ranged { "206 Partial Content" } else { "200 OK" };
    let length = format!("Content-Length: {}\r\n", content.len() - start);
    let range = format!("Content-Range: bytes {said}-{}/{}\r\n", content.len() - 1, content.len());
    let headers = if ranged { length + &range } else { length };
    match reply {
        Reply::Whole | Reply::WholeWithoutRanges | Reply::WrongRange => {
            send(status, &headers, &content[start..])
        }
        Reply::Cut(n) => send(status, &headers, &content[start..start + n]),
        Reply::Stall(n) => {
            send(status, &headers, &content[start..start + n]);
            std::thread::sleep(Duration::from_secs(60));
        }
        Reply::Trickle => {
            send(status, &headers, b"");
            for byte in &content[start..] {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Reply::Endless => {
            send(status, "", b"");
            while stream.write_all(&[0; 1 << 16]).is_ok() {}
        }
        Reply::Longer(n) => {
            send(status, &format!("Content-Length: {}\r\n", content.len() + n), content)
        }
        Reply::Corrupt => {
            let mut body = content[start..].to_vec();
            body[0] ^= 1;
            send(status, &headers, &body);
        }
        Reply::Status(code) => send(&format!("{code} No"), "Content-Length: 2\r\n", b"no"),
        Reply::Redirect(to) => {
            send("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n"), b"")
        }
    }
}

struct Download {
    dir: TempDir,
    content: Vec<u8>,
    md5: String,
    /// After so many bytes somebody asks to stop.
    stop_at: Option<u64>,
}

impl Download {
    fn new() -> Download {
        let dir = temp();
        let content: Vec<u8> =
            (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let path = dir.path().join("original");
        fs::write(&path, &content).unwrap();
        let md5 = md5_file(&path).unwrap();
        fs::remove_file(&path).unwrap();
        Download { dir, content, md5, stop_at: None }
    }

    fn serve(&self, replies: Vec<Reply>) -> Server {
        serve(&self.content, replies)
    }

    fn fetch(&self, servers: &[&Server]) -> (gradcon::Result<PathBuf>, Vec<Event>) {
        self.fetch_within(Duration::from_secs(30), servers)
    }

    fn fetch_within(
        &self,
        stall: Duration,
        servers: &[&Server],
    ) -> (gradcon::Result<PathBuf>, Vec<Event>) {
        let mirrors: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
        let urls = mirrors.iter().map(|url| format!("{url}/file.bin")).collect();
        let bytes = self.content.len() as u64;
        let remote = Remote { name: "file.bin".into(), bytes, md5: self.md5.clone(), urls };
        let patience = Patience { stall, least_rate: 1000, attempts: 3, pause: Duration::ZERO };
        let mut events = Vec::new();
        let result = fetch(&remote, self.dir.path(), &patience, &mut |event| {
            let stop = self
                .stop_at
                .is_some_and(|stop| matches!(event, Event::Progress(done, _) if done >= stop));
            events.push(event);
            if stop { Err(Error::Interrupted) } else { Ok(()) }
        });
        (result, events)
    }

    #[track_caller]
    fn assert_fetched(&self, result: gradcon::Result<PathBuf>) {
        let path = result.expect("a download");
        assert_eq!(path, self.dir.path().join("file.bin"));
        assert!(fs::read(path).unwrap() == self.content, "other content");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1, "only the file is left");
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("file.bin.part")
    }
}

fn ranges(server: &Server) -> Vec<String> {
    server.ranges.lock().unwrap().clone()
}

fn failures(events: &[Event]) -> Vec<&str> {
    let mut failures = Vec::new();
    for event in events {
        if let Event::Failed(why) = event {
            failures.push(why.as_str());
        }
    }
    failures
}

#[test]
fn a_download_arrives_is_counted_and_is_not_repeated() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert_eq!(events[0], Event::Request { url: format!("{}/file.bin", server.url), from: 0 });
    assert_eq!(events[1], Event::Progress(0, Some(300_000)));
    assert_eq!(events.last(), Some(&Event::Progress(300_000, Some(300_000))));
    // Nobody listens any more: the file is taken as it is.
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert!(events.is_empty());
}

#[test]
fn a_truncated_download_is_resumed() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::Cut(50_000), Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert_eq!(ranges(&server), ["", "bytes=100000-", "bytes=150000-"]);
    let failures = failures(&events);
    assert!(failures[0].contains("closed after 100000 of 300000 bytes"), "{failures:?}");
    assert!(failures[1].contains("closed after 150000 of 300000 bytes"), "{failures:?}");
}

#[test]
fn a_stalled_download_is_given_up_and_resumed() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Stall(70_000)]);
    let second = job.serve(vec![Reply::Whole]);
    let start = Instant::now();
    let (result, events) = job.fetch_within(Duration::from_millis(400), &[&server, &second]);
    // Three tries of 0.4 s on the first server, which stalls for a minute and meanwhile answers
    // nobody.
    assert!(start.elapsed() < Duration::from_secs(30), "waited {:?}", start.elapsed());
    job.assert_fetched(result);
    let failures = failures(&events);
    assert!(failures[0].contains("no data for 0.4 s after 70000 of 300000 bytes"), "{failures:?}");
    assert_eq!(ranges(&second), ["bytes=70000-"]);
}

#[test]
fn a_server_that_trickles_is_given_up() {
    let job = Download::new();
    let (slow, good) = (job.serve(vec![Reply::Trickle]), job.serve(vec![Reply::Whole]));
    let (result, events) = job.fetch_within(Duration::from_millis(200), &[&slow, &good]);
    job.assert_fetched(result);
    assert!(ranges(&good)[0].starts_with("bytes="), "what trickled in is kept");
    let failures = failures(&events);
    assert!(
        failures[0].contains("too slow: ") && failures[0].contains("at least 1000 a second"),
        "{failures:?}"
    );
}

#[test]
fn no_more_than_the_published_length_is_taken() {
    let job = Download::new();
    let (longer, endless) = (job.serve(vec![Reply::Longer(1)]), job.serve(vec![Reply::Endless]));
    let good = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&longer, &endless, &good]);
    job.assert_fetched(result);
    // Neither is asked again, and nothing of them is kept.
    let failures = failures(&events);
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].contains("another file: it has 300001 bytes, expected 300000"),
        "{failures:?}"
    );
    assert!(
        failures[1].contains("another file: it has more than the expected 300000 bytes"),
        "{failures:?}"
    );
    assert_eq!(ranges(&good), [""]);
    // The longer file was not even begun.
    let progress =
        events.iter().filter(|event| matches!(event, Event::Progress(_, Some(300_001)))).count();
    assert_eq!(progress, 0);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::WholeWithoutRanges]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["", "bytes=100000-"]);
}

#[test]
fn a_wrong_range_is_not_appended() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000), Reply::WrongRange, Reply::Whole]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["", "bytes=100000-", ""]);
}

#[test]
fn corrupt_content_is_thrown_away_and_the_next_server_asked() {
    let job = Download::new();
    let (bad, good) = (job.serve(vec![Reply::Corrupt]), job.serve(vec![Reply::Whole]));
    let (result, events) = job.fetch(&[&bad, &good]);
    job.assert_fetched(result);
    assert_eq!(ranges(&good), [""]);
    let failures = failures(&events);
    assert!(
        failures[0].contains("wrong content: MD5") && failures[0].contains(&job.md5),
        "{failures:?}"
    );
    assert_eq!(failures.len(), 1);
}

#[test]
fn what_was_kept_is_thrown_away_if_it_was_the_wrong_part() {
    let job = Download::new();
    // Of another file, so the sum can't be right; then longer than the file.
    for kept in [vec![0; 1000], vec![0; 300_001]] {
        fs::write(job.part(), kept).unwrap();
        let server = job.serve(vec![Reply::Whole, Reply::Whole]);
        let (result, events) = job.fetch(&[&server]);
        job.assert_fetched(result);
        assert_eq!((ranges(&server).len(), failures(&events).len()), (2, 1));
        fs::remove_file(job.dir.path().join("file.bin")).unwrap();
    }
    // Complete already, only not renamed.
    fs::write(job.part(), &job.content).unwrap();
    let server = job.serve(vec![Reply::Whole]);
    let (result, events) = job.fetch(&[&server]);
    job.assert_fetched(result);
    assert!(failures(&events).is_empty());
    assert_eq!(ranges(&server), ["bytes=300000-"]);
}

#[test]
fn redirects_are_followed_with_the_range() {
    let job = Download::new();
    let target = job.serve(vec![Reply::Cut(10), Reply::Whole]);
    let to = || Reply::Redirect(format!("{}/file.bin", target.url));
    let server = job.serve(vec![to(), to()]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&target), ["", "bytes=10-"]);
    let job = Download::new();
    let server = job.serve(vec![Reply::Redirect("/file.bin".into()); 11]);
    error_with(job.fetch(&[&server]).0, &["redirect"]);
}

#[test]
fn a_missing_file_is_asked_for_once_and_a_broken_server_again() {
    let job = Download::new();
    let missing = job.serve(vec![Reply::Status(404)]);
    let broken = job.serve(vec![Reply::Status(503); 3]);
    let gone = job.serve(vec![]);
    let (result, _) = job.fetch(&[&missing, &broken, &gone]);
    let error = error_with(
        result,
        &[
            "file.bin could not be downloaded",
            &format!("{}/file.bin: HTTP status 404\n", missing.url),
            &format!("{}/file.bin: HTTP status 503 (attempt 3)\n", broken.url),
            &format!("{}/file.bin: ", gone.url),
            "--mirror",
            "--from",
        ],
    );
    assert_eq!(error.exit_code(), 1);
    assert_eq!((ranges(&missing).len(), ranges(&broken).len()), (1, 3));
    assert_eq!(fs::read_dir(job.dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_arrived_is_kept_for_the_next_run() {
    let job = Download::new();
    let server = job.serve(vec![Reply::Cut(100_000); 2]);
    let (result, _) = job.fetch(&[&server]);
    error_with(result, &["200000 bytes are kept in", "file.bin.part", "resume"]);
    let server = job.serve(vec![Reply::Whole]);
    job.assert_fetched(job.fetch(&[&server]).0);
    assert_eq!(ranges(&server), ["bytes=200000-"]);
}

#[test]
fn a_download_that_is_interrupted_keeps_what_arrived() {
    for stop in [0, 100_000] {
        let job = Download { stop_at: Some(stop), ..Download::new() };
        let (result, _) = job.fetch(&[&job.serve(vec![Reply::Whole])]);
        assert_eq!(error_with(result, &[]).exit_code(), 130);
        let kept = fs::metadata(job.part()).map_or(0, |part| part.len());
        assert_eq!(
            (kept >= stop, kept < job.content.len() as u64, job.part().exists()),
            (true, true, stop > 0)
        );
        let job = Download { stop_at: None, ..job };
        job.assert_fetched(job.fetch(&[&job.serve(vec![Reply::Whole])]).0);
    }
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let job = Download::new();
    let file = fs::File::create(job.part()).unwrap();
    file.lock().unwrap();
    error_with(
        job.fetch(&[&job.serve(vec![Reply::Whole])]).0,
        &["file.bin.part", "another process"],
    );
}
