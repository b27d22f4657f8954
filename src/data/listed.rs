//! Paths that somebody lists: one a line, or with a NUL after each, as they come.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use super::walk::{LeftOut, Why};

/// Most bytes of a path; a list without line ends is none.
const MOST: usize = 1 << 16;

/// The paths in a text. What can't be read, or is no path, ends them and comes out by name.
pub struct Listed<R> {
    from: R,
    end: u8,
    over: bool,
}

impl<R: BufRead> Listed<R> {
    /// Reads a path a line, or with a NUL after each if `null`. Empty ones are passed over.
    pub fn new(from: R, null: bool) -> Listed<R> {
        Listed { from, end: if null { 0 } else { b'\n' }, over: false }
    }

    fn failed(&mut self, why: String) -> Result<PathBuf, LeftOut> {
        self.over = true;
        Err(LeftOut { path: "standard input".into(), why: Why::Unreadable(why) })
    }
}

impl<R: BufRead> Iterator for Listed<R> {
    type Item = Result<PathBuf, LeftOut>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let mut line = vec![];
            let read = (&mut self.from).take(MOST as u64 + 1).read_until(self.end, &mut line);
            if let Err(e) = read {
                return Some(self.failed(e.to_string()));
            }
            if line.is_empty() {
                return None;
            }
            if line.last() == Some(&self.end) {
                line.pop();
                // As Windows ends lines.
                if self.end == b'\n' && line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
            if line.len() > MOST {
                return Some(self.failed(format!("a path of more than {MOST} bytes")));
            }
            if !line.is_empty() {
                return Some(Ok(path(line)));
            }
        }
        None
    }
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &[u8], null: bool) -> Vec<String> {
        let told = |entry: Result<PathBuf, LeftOut>| match entry {
            Ok(path) => path.display().to_string(),
            Err(left_out) => left_out.to_string(),
        };
        Listed::new(text, null).map(told).collect()
    }

    #[test]
    fn lines_and_nuls_end_paths() {
        assert_eq!(paths(b"a.png\n\nb c.png\r\nd.png", false), ["a.png", "b c.png", "d.png"]);
        assert_eq!(paths(b"a\nb.png\0c\r\0\0d", true), ["a\nb.png", "c\r", "d"]);
        assert!(paths(b"", false).is_empty() && paths(b"\n\n", false).is_empty());
    }

    #[test]
    fn what_is_no_list_is_no_endless_path() {
        let longest = vec![b'x'; MOST];
        assert_eq!(paths(&[&longest[..], b"\nb"].concat(), false)[1], "b");
        let endless = paths(&vec![b'x'; 3 * MOST], false);
        assert_eq!(endless, ["standard input: a path of more than 65536 bytes"]);
    }
}
