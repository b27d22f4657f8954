//! The real program in a folder of its own.

#![allow(dead_code)] // each test file uses its part

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A fresh folder to run the program in.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gradcon"));
        command
            .current_dir(self.0.path())
            .args(line.split_whitespace())
            .env_remove("WGPU_ADAPTER_NAME")
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("NO_COLOR", "1");
        command
    }

    /// A line of the shell, with the program as `$GRADCON`.
    #[cfg(unix)]
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .current_dir(self.0.path())
            .args(["-c", line])
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("GRADCON", env!("CARGO_BIN_EXE_gradcon"));
        command
    }

    pub fn prepared(self) -> Place {
        self.ok("prep fmnist --subset --out data -q");
        self
    }

    /// A model that never learned anything, as `name`; what it says of an image is a number all the
    /// same.
    pub fn model(&self, name: &str, description: &[(&str, &str)]) {
        self.scaled_model(name, description, 1.0);
    }

    /// Such a model with its parameters scaled.
    pub fn scaled_model(&self, name: &str, description: &[(&str, &str)], scale: f32) {
        let model = gradcon::Model::new(1);
        let params = model.init(gradcon::Init::Kaiming, 0).iter().map(|p| p * scale).collect();
        let reference = (0..model.reference_len()).map(|i| (i % 7) as f32 - 3.0).collect();
        let description =
            description.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        gradcon::Detector { model, params, reference, statistics: None, description }
            .save(&path)
            .unwrap();
    }

    /// A gray image that depends on `seed`.
    pub fn image(&self, name: &str, seed: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels: Vec<u8> =
            (0..28 * 28).map(|i: u32| (i.wrapping_mul(2 * seed + 1) >> 3) as u8).collect();
        image::save_buffer_with_format(
            path,
            &pixels,
            28,
            28,
            image::ColorType::L8,
            image::ImageFormat::Png,
        )
        .unwrap();
    }

    /// `count` names of one image in `folder`, 000000.png and so on; the one at `broken` is no
    /// image.
    pub fn many(&self, folder: &str, count: usize, broken: usize) {
        self.image("one.png", 1);
        std::fs::create_dir_all(self.path(folder)).unwrap();
        for i in 0..count {
            let path = self.path(folder).join(format!("{i:06}.png"));
            match i == broken {
                true => std::fs::write(path, "no image").unwrap(),
                false => std::fs::hard_link(self.path("one.png"), path).unwrap(),
            }
        }
    }

    /// Runs to success and returns stdout.
    pub fn ok(&self, line: &str) -> String {
        let out = self.command(line).output().unwrap();
        assert!(out.status.success(), "gradcon {line}: {}\n{}", out.status, text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs to failure with `code` and returns stderr.
    pub fn fails(&self, line: &str, code: i32) -> String {
        let out = self.command(line).output().unwrap();
        assert_eq!(
            out.status.code(),
            Some(code),
            "gradcon {line}\n{}\n{}",
            text(&out.stdout),
            text(&out.stderr)
        );
        let stderr = text(&out.stderr);
        assert!(!stderr.contains("panicked"), "gradcon {line}\n{stderr}");
        stderr
    }
}

/// Under nohup, tests and all that they start ignore SIGHUP; a process that is to be told by it must
/// not.
#[cfg(unix)]
fn hear_hangups(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the default takes no handler that could be wrong.
    let reset = || match unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: `signal` is one of the functions that may be called between fork and exec, and so is
    // reading errno.
    unsafe { command.pre_exec(reset) };
}

/// A process whose stderr is read line by line; killed when dropped.
pub struct Running {
    pub child: Child,
    stderr: Option<std::io::BufReader<std::process::ChildStderr>>,
    /// What was read so far.
    pub said: String,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        #[cfg(unix)]
        hear_hangups(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr: Some(stderr), said: String::new() }
    }

    /// Reads on until a line that contains `word`.
    pub fn wait_for(&mut self, word: &str) {
        loop {
            let before = self.said.len();
            let read = self.stderr.as_mut().unwrap().read_line(&mut self.said).unwrap();
            assert!(read > 0, "no '{word}' in\n{}", self.said);
            if self.said[before..].contains(word) {
                return;
            }
        }
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for keeps its number.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Closes its stderr: from now on nobody reads what it says.
    pub fn close(&mut self) {
        self.stderr = None;
    }

    /// Reads to the end and returns the exit code; none after a signal.
    pub fn end(&mut self) -> Option<i32> {
        if let Some(stderr) = &mut self.stderr {
            std::io::Read::read_to_string(stderr, &mut self.said).unwrap();
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
