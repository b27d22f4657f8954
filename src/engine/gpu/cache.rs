//! Compiled pipelines on the disk, so that the next start of the program need not compile them.
//!
//! A file of the user's cache folder holds a SHA-256 and what wgpu gave to be kept. What is damaged,
//! foreign, or of another driver is not used: then everything is compiled, and kept anew.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::device::Gpu;
use crate::files::{make_private, write_atomically};
use crate::limits;

const HASH: usize = 32;

/// What is kept of an adapter's pipelines.
pub(super) struct Cache {
    pub pipelines: wgpu::PipelineCache,
    path: PathBuf,
    /// The hash that the file begins with.
    kept: Option<Vec<u8>>,
}

impl Cache {
    /// The cache of a device in `folder`; none where its backend has no such thing.
    pub fn open(gpu: &Gpu, folder: &Path) -> Option<Cache> {
        if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(wgpu::util::pipeline_cache_key(&gpu.device.adapter_info())?);
        let kept = read(&path);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pipelines"),
            data: kept.as_ref().map(|bytes| &bytes[HASH..]),
            fallback: true,
        };
        let make = |device: &wgpu::Device| {
            // SAFETY: the data are what `get_data` returned: `save` alone writes such files, in a
            // folder of the user's own, and the hash tells of damage. wgpu takes no data of another
            // adapter or driver.
            unsafe { device.create_pipeline_cache(&descriptor) }
        };
        // Without it all goes on, only slower.
        let pipelines = gpu.guarded(|| "the cache of pipelines".into(), make).ok()?;
        let kept = kept.map(|bytes| bytes[..HASH].to_vec());
        Some(Cache { pipelines, path, kept })
    }

    /// Writes what is new. A failure costs the next start some time and nothing else.
    pub fn save(&mut self) {
        let Some(data) = self.pipelines.get_data() else { return };
        let hash = Sha256::digest(&data).to_vec();
        if self.kept.as_ref() == Some(&hash) {
            return;
        }
        let folder = crate::files::parent(&self.path);
        let made = make_private(folder).is_ok();
        if made && write_atomically(&self.path, &[&hash, &data[..]].concat()).is_ok() {
            self.kept = Some(hash);
        }
    }
}

/// The whole file, if its hash is right.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = limits::read(path, limits::PIPELINES, "a cache of pipelines").ok()?;
    let (hash, data) = bytes.split_at_checked(HASH)?;
    (Sha256::digest(data)[..] == *hash).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gpu::{GpuEngine, OpenOptions, Selector};
    use crate::engine::{Data, Engine};
    use crate::program::{Options, compile};
    use crate::tape::Tape;

    /// What an engine with this folder computes, and whether it found pipelines there.
    fn run(folder: &Path) -> (Vec<f32>, bool) {
        let options = OpenOptions { allow_software: true, ..OpenOptions::default() };
        let mut gpu = GpuEngine::open(&Selector::Hardware, options)
            .unwrap_or_else(|e| panic!("this test needs a GPU adapter: {e}"));
        gpu.pipelines.cache = Cache::open(&gpu.gpu, folder);
        let found = gpu.pipelines.cache.as_ref().is_some_and(|cache| cache.kept.is_some());
        let mut tape = Tape::new();
        let x = tape.leaf("x", [1, 1, 1, 48]);
        let y = tape.sigmoid(x);
        let y = tape.mul(x, y);
        tape.store(y, "y");
        let loaded = gpu.load(&compile("swish", &tape, Options::default())).unwrap();
        let numbers: Vec<f32> = (0..48).map(|i| i as f32 / 7.0 - 3.0).collect();
        gpu.write("x", Data::F32(&numbers)).unwrap();
        gpu.run(loaded, 0..1).unwrap();
        (gpu.read_f32("y").unwrap(), found)
    }

    #[test]
    #[ignore = "needs a GPU adapter; tools/test.sh runs it"]
    fn pipelines_are_found_again_and_what_is_damaged_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("not/there/yet");
        let (numbers, found) = run(&folder);
        assert!(!found);
        let Some(path) = std::fs::read_dir(&folder).ok().and_then(|mut all| all.next()) else {
            return; // a backend without such a cache
        };
        let path = path.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > HASH);
        assert!(run(&folder) == (numbers.clone(), true));
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        // Whole by its hash, and nothing that wgpu knows.
        let foreign = [&Sha256::digest(b"foreign")[..], b"foreign"].concat();
        for (damage, found) in
            [(flipped, false), (whole[..20].to_vec(), false), (vec![], false), (foreign, true)]
        {
            std::fs::write(&path, &damage).unwrap();
            assert!(run(&folder) == (numbers.clone(), found));
            assert!(read(&path).is_some() && std::fs::read(&path).unwrap() != damage);
        }
        // A folder that can't be made is no reason to stop.
        assert!(run(&path.join("below a file")) == (numbers, false));
    }
}
