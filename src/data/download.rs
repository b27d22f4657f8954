//! Downloading a file whose length and checksum are known: from the first server that delivers it,
//! taking up where an earlier attempt broke off. A server can neither send more than the file nor
//! keep anyone waiting for ever.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::datasets::Published;
use super::hash::md5_file;
use crate::error::{Error, Result};
use crate::limits::shown;

/// A file to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name on disk.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its MD5 sum in hexadecimal.
    pub md5: String,
    /// Where it can be had, in the order to try.
    pub urls: Vec<String>,
}

impl Remote {
    /// The file on each of `mirrors`, which end with or without a slash.
    pub fn new(file: &Published, mirrors: &[&str]) -> Remote {
        let Published { name, bytes, md5 } = *file;
        let urls = mirrors
            .iter()
            .map(|mirror| format!("{}/{name}", mirror.trim_end_matches('/')))
            .collect();
        Remote { name: name.into(), bytes, md5: md5.into(), urls }
    }
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Give up on a connection on which nothing happens for this long.
    pub stall: Duration,
    /// Give up on a connection on which fewer bytes a second arrive, over a time of `stall`.
    pub least_rate: u64,
    /// How often to try each server.
    pub attempts: u32,
    /// Wait before trying the same server again.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            stall: Duration::from_secs(30),
            least_rate: 1000,
            attempts: 3,
            pause: Duration::from_secs(2),
        }
    }
}

/// What [`fetch`] tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server is asked for the file, from byte `from` on.
    Request {
        /// The full address.
        url: String,
        /// Bytes that are there already.
        from: u64,
    },
    /// So many bytes of the file are there, of so many in all if the server said.
    Progress(u64, Option<u64>),
    /// An attempt failed, for this reason.
    Failed(String),
}

/// Puts the file into `dir` and returns its path. A file with the right checksum that is there
/// already is taken as it is. What arrives is kept in `NAME.part` until it is complete and its
/// checksum is right; a later call resumes it.
///
/// # Errors
/// No server delivered the file; the message says for each address what happened, and what to do.
/// Or what `tell` returned: that ends it, and what arrived is kept as well.
pub fn fetch(
    remote: &Remote,
    dir: &Path,
    patience: &Patience,
    tell: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<PathBuf> {
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let path = dir.join(&remote.name);
    if path.is_file() && md5_file(&path)? == remote.md5 {
        return Ok(path);
    }
    let part = dir.join(format!("{}.part", remote.name));
    let mut transfer = Transfer { file: open_part(&part)?, part: &part, remote, patience, tell };
    let mut failures = Vec::new();
    for url in &remote.urls {
        for attempt in 1..=patience.attempts {
            let (what, again) = match transfer.attempt(url) {
                Ok(()) => {
                    fs::rename(&part, &path).map_err(Error::io(&part))?;
                    return Ok(path);
                }
                Err(Failure::Theirs { what, again }) => (what, again),
                Err(Failure::Ours(e)) => {
                    if transfer.kept().is_ok_and(|kept| kept == 0) {
                        // The first error is the one to tell.
                        let _ = fs::remove_file(&part);
                    }
                    return Err(e);
                }
            };
            (transfer.tell)(Event::Failed(format!("{url}: {what}")))?;
            if !again || attempt == patience.attempts {
                failures.push(match attempt {
                    1 => format!("{url}: {what}"),
                    n => format!("{url}: {what} (attempt {n})"),
                });
                break;
            }
            std::thread::sleep(patience.pause);
        }
    }
    let kept = transfer.kept()?;
    let advice = if kept > 0 {
        format!("run the command again to resume ({kept} bytes are kept in {})", part.display())
    } else {
        fs::remove_file(&part).map_err(Error::io(&part))?;
        "run the command again later".into()
    };
    Err(Error::invalid(format!(
        "{} could not be downloaded\n  {}\n{advice}, name another server with --mirror URL, or \
         fetch the file yourself and name its folder with --from PATH",
        remote.name,
        failures.join("\n  ")
    )))
}

/// What has arrived of a file, for this process alone.
fn open_part(part: &Path) -> Result<File> {
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(part);
    let file = open.map_err(Error::io(part))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::invalid(format!(
            "{}: another process is downloading to this file",
            part.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Error::io(part)(e)),
    }
}

/// Why an attempt failed.
enum Failure {
    /// The server is to blame, or what is between; `again` if the same one may do better next time.
    Theirs { what: String, again: bool },
    /// This machine is to blame (a full disk), which no server can help, or somebody asked to stop.
    Ours(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Ours(error)
    }
}

fn fail<T>(what: String, again: bool) -> std::result::Result<T, Failure> {
    Err(Failure::Theirs { what, again })
}

/// A file on its way.
struct Transfer<'a> {
    /// What has arrived so far.
    file: File,
    /// Its path.
    part: &'a Path,
    remote: &'a Remote,
    patience: &'a Patience,
    tell: &'a mut dyn FnMut(Event) -> Result<()>,
}

impl Transfer<'_> {
    /// How many bytes have arrived.
    fn kept(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io(self.part))?.len())
    }

    /// Throws away what doesn't belong to the file, and fails.
    fn start_over<T>(&self, what: String, again: bool) -> std::result::Result<T, Failure> {
        self.file.set_len(0).map_err(Error::io(self.part))?;
        fail(what, again)
    }

    /// One request, and what comes of it: the whole file with the right checksum.
    fn attempt(&mut self, url: &str) -> std::result::Result<(), Failure> {
        let from = self.kept()?;
        (self.tell)(Event::Request { url: url.into(), from })?;
        let response = self.ask(url, from)?;
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        let start = match status {
            200 => 0,
            206 if header("content-range").and_then(range_start) == Some(from) => from,
            206 => {
                let what = "the server sent another part of the file than the one asked for";
                return self.start_over(what.into(), true);
            }
            // Nothing is left to send: the file is complete already, or another one than the
            // server's.
            416 if md5_file(self.part)? == self.remote.md5 => return Ok(()),
            416 => {
                let what = "the server's file is shorter than what was kept of it; starting over";
                return self.start_over(what.into(), true);
            }
            _ => return fail(format!("HTTP status {status}"), status >= 500 || status == 429),
        };
        let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
        let total = length.map(|length| start.saturating_add(length));
        // Not worth its bytes: the checksum can't be right.
        let expected = self.remote.bytes;
        if let Some(total) = total.filter(|&total| total != expected) {
            let what = format!("another file: it has {total} bytes, expected {expected}");
            return self.start_over(what, start > 0);
        }
        self.receive(response.into_body().into_reader(), start, total)?;
        self.file.sync_all().map_err(Error::io(self.part))?;
        let (found, expected) = (md5_file(self.part)?, &self.remote.md5);
        if found != *expected {
            // Never resumed: the wrong byte may be anywhere. What was kept from before may be to
            // blame, then ask again.
            let what = format!("wrong content: MD5 {found}, expected {expected}");
            return self.start_over(what, start > 0);
        }
        Ok(())
    }

    /// Asks a server for the file from byte `from` on.
    fn ask(
        &self,
        url: &str,
        from: u64,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = agent(url, self.patience).get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().or_else(|e| {
            let again = !matches!(
                e,
                ureq::Error::BadUri(_) | ureq::Error::TooManyRedirects | ureq::Error::HostNotFound
            );
            fail(reason(&e, self.patience), again)
        })
    }

    /// Puts what a server sends behind the first `start` bytes, until it ends; `total` bytes in all
    /// if the server said.
    fn receive(
        &mut self,
        mut body: impl Read,
        start: u64,
        total: Option<u64>,
    ) -> std::result::Result<(), Failure> {
        let Remote { bytes, .. } = *self.remote;
        self.file.set_len(start).map_err(Error::io(self.part))?;
        self.file.seek(SeekFrom::End(0)).map_err(Error::io(self.part))?;
        (self.tell)(Event::Progress(start, total))?;
        let mut done = start;
        let mut buffer = vec![0; 1 << 16];
        let mut pace = Pace::new(done);
        let broken = loop {
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    done += n as u64;
                    if done > bytes {
                        let what =
                            format!("another file: it has more than the expected {bytes} bytes");
                        return self.start_over(what, start > 0);
                    }
                    self.file.write_all(&buffer[..n]).map_err(Error::io(self.part))?;
                    (self.tell)(Event::Progress(done, total))?;
                    if let Some(arrived) = pace.too_slow(done, self.patience) {
                        let seconds = self.patience.stall.as_secs_f32();
                        let least = self.patience.least_rate;
                        break Some(format!(
                            "too slow: {arrived} bytes in {seconds} s, expected at least {least} \
                             a second"
                        ));
                    }
                }
                Err(e) => break Some(reason(&ureq::Error::from(e), self.patience)),
            }
        };
        let short = broken.or_else(|| {
            (total.is_some_and(|total| done < total)).then(|| "the connection was closed".into())
        });
        if let Some(what) = short {
            let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
            return fail(format!("{what} after {done}{of} bytes"), true);
        }
        Ok(())
    }
}

/// How fast a file arrives, looked at once every [`Patience::stall`].
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(bytes: u64) -> Pace {
        Pace { since: Instant::now(), bytes }
    }

    /// How many bytes arrived in the time that is over, if they were too few.
    fn too_slow(&mut self, done: u64, patience: &Patience) -> Option<u64> {
        let elapsed = self.since.elapsed();
        if elapsed < patience.stall {
            return None;
        }
        let arrived = done - self.bytes;
        *self = Pace::new(done);
        ((arrived as f64) < patience.least_rate as f64 * elapsed.as_secs_f64()).then_some(arrived)
    }
}

/// Looks names up as usual, and tells a name that can't be looked up from a connection that broke:
/// asking again is of no use.
#[derive(Debug, Default)]
struct Names(DefaultResolver);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout).map_err(|e| match e {
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            e => e,
        })
    }
}

fn agent(url: &str, patience: &Patience) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("gradcon/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.stall))
        .timeout_connect(Some(patience.stall))
        .timeout_recv_response(Some(patience.stall))
        .timeout_per_read(Some(patience.stall));
    // A proxy from the environment can't reach a server on this machine.
    if url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost") {
        config = config.proxy(None);
    }
    ureq::Agent::with_parts(config.build(), DefaultConnector::default(), Names::default())
}

fn reason(error: &ureq::Error, patience: &Patience) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no data for {} s", patience.stall.as_secs_f32()),
        ureq::Error::HostNotFound => {
            "the server's name can't be resolved: no such host, or no network".into()
        }
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the connection was closed".into()
        }
        ureq::Error::Io(e) => e.to_string(),
        other => shown(other),
    }
}

/// The first position in a header like `bytes 100-199/200`.
fn range_start(header: &str) -> Option<u64> {
    header.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
