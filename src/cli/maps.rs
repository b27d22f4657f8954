//! `score --maps`: pictures of where images are anomalous, at the images' own size.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::data::folder::Decode;
use crate::error::{Error, Result};
use crate::method::maps::Scale;
use crate::report::file::write_atomic;
use crate::report::overlay::Stretched;
use crate::sheet::png;

/// Where the maps of images go.
pub struct MapFolder {
    folder: PathBuf,
    decode: Decode,
    scale: Scale,
    written: u64,
}

impl MapFolder {
    /// Maps go below `folder`; images were read by `decode`, and pictures are coloured by `scale`.
    pub fn new(folder: &Path, decode: Decode, scale: Scale) -> MapFolder {
        MapFolder { folder: folder.into(), decode, scale, written: 0 }
    }

    /// Writes two pictures of each map [size, size]: below the folder, under the image's own path,
    /// `IMAGE.map.png` and `IMAGE.overlay.png`.
    ///
    /// # Errors
    /// The image can't be read any more; the file system's.
    pub fn add(&mut self, paths: &[&Path], maps: &[f32]) -> Result<()> {
        let len = self.decode.size() * self.decode.size();
        paths.par_iter().zip(maps.par_chunks_exact(len)).try_for_each(|(path, map)| {
            let image = self.decode.whole(path);
            let image =
                image.map_err(|reason| Error::invalid(format!("{}: {reason}", path.display())))?;
            let shape = [image.height, image.width];
            let levels: Vec<f32> = map.iter().map(|&value| self.scale.level(value)).collect();
            let frame = self.decode.aspect().frame(shape, self.decode.size());
            let levels = Stretched::new(&levels, self.decode.size(), &frame, shape);
            let place = self.folder.join(below(path));
            for (what, picture) in [("map", levels.heat_map()), ("overlay", levels.overlay(&image))]
            {
                let mut name = place.clone().into_os_string();
                name.push(format!(".{what}.png"));
                write_atomic(Path::new(&name), &png(&picture, 0)?)?;
            }
            Ok::<_, Error>(())
        })?;
        self.written += paths.len() as u64;
        Ok(())
    }

    /// What was written, in words.
    pub fn summary(&self) -> String {
        format!(
            "{} maps and overlays in {}: IMAGE.map.png (black: as most of normal images, pale \
             yellow: the most anomalous) and IMAGE.overlay.png (yellow: as a thousandth of the \
             pixels of normal images, red: more)",
            self.written,
            self.folder.display()
        )
    }
}

/// A path that can lie below any folder: without what leads up or to the root.
fn below(path: &Path) -> PathBuf {
    let part = |part: Component| match part {
        Component::Normal(name) => Some(OsString::from(name)),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_folder() {
        for (path, expected) in
            [("a/b.png", "a/b.png"), ("/srv/x/b.png", "srv/x/b.png"), ("../../b.png", "b.png")]
        {
            assert_eq!(below(Path::new(path)), Path::new(expected));
        }
    }
}
