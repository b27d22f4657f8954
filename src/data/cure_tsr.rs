//! CURE-TSR: real traffic signs, challenge-free and under twelve challenges at five levels each.
//!
//! `Real_Train/ChallengeFree/01_06_00_00_0001.bmp`, `Real_Test/CodecError-1/01_06_03_01_0001.bmp`:
//! sequence, sign, challenge, level, index. Training images are challenge-free; a test set pairs
//! the challenge-free test images with those of one challenge at one level.

use std::path::{Path, PathBuf};

use super::folder::{self, Tally};
use crate::error::{Error, Result};

/// The signs; an image's label is the number in its name less one.
pub const SIGNS: [&str; 14] = [
    "speed_limit",
    "goods_vehicles",
    "no_overtaking",
    "no_stopping",
    "no_parking",
    "stop",
    "bicycle",
    "hump",
    "no_left",
    "no_right",
    "priority_to",
    "no_entry",
    "yield",
    "parking",
];

/// The challenges as the folders name them; the number in a file's name is the position here plus
/// one, 0 for none.
pub const CHALLENGES: [&str; 12] = [
    "Decolorization",
    "LensBlur",
    "CodecError",
    "Darkening",
    "DirtyLens",
    "Exposure",
    "GaussianBlur",
    "Noise",
    "Rain",
    "Shadow",
    "Snow",
    "Haze",
];

const FREE: &str = "ChallengeFree";

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// 1 real, 2 unreal.
    pub sequence: u8,
    /// 1 to 14.
    pub sign: u8,
    /// 0 none, 1 to 12.
    pub challenge: u8,
    /// 0 none, 1 to 5.
    pub level: u8,
}

/// Images of one challenge at one level, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// 0 none, else position in [`CHALLENGES`] plus one.
    pub challenge: u8,
    /// 0 none, else 1 to 5.
    pub level: u8,
    /// The files, sorted.
    pub paths: Vec<PathBuf>,
    /// Their labels (sign - 1).
    pub labels: Vec<u8>,
}

/// The dataset's files, named but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The folder that holds `Real_Train` and `Real_Test`.
    pub root: PathBuf,
    /// Challenge-free training images.
    pub train: Group,
    /// Challenge-free test images.
    pub test_free: Group,
    /// Test images under a challenge, by challenge and level.
    pub test: Vec<Group>,
    /// What else is there.
    pub left_out: Tally,
}

/// Lists the dataset below `path`, which is the folder of `Real_Train` and `Real_Test` or one that
/// holds `CURE-TSR`.
///
/// # Errors
/// A folder is missing or has an unknown name, or an image's name does not fit the scheme or its
/// folder.
pub fn list(path: &Path) -> Result<Listing> {
    let root = root(path).ok_or_else(|| {
        Error::invalid(format!(
            "{}: expected folders Real_Train and Real_Test in it",
            path.display()
        ))
    })?;
    let mut left_out = Tally::default();
    let train = group(&root.join("Real_Train").join(FREE), 0, 0, &mut left_out)?;
    let test_free = group(&root.join("Real_Test").join(FREE), 0, 0, &mut left_out)?;
    let mut test = Vec::new();
    for dir in folder::entries(&root.join("Real_Test"))?.into_iter().filter(|path| path.is_dir()) {
        let name = folder::name_of(&dir);
        if name != FREE {
            let (challenge, level) = parse_folder(&name).ok_or_else(|| {
                Error::invalid(format!(
                    "{}: unknown challenge, expected {FREE} or one of {} with -1 to -5",
                    dir.display(),
                    CHALLENGES.join(", ")
                ))
            })?;
            test.push(group(&dir, challenge, level, &mut left_out)?);
        }
    }
    if test.is_empty() {
        let dir = root.join("Real_Test");
        return Err(Error::invalid(format!(
            "{}: no folder of a challenge in it, such as Rain-1",
            dir.display()
        )));
    }
    test.sort_by_key(|group| (group.challenge, group.level));
    Ok(Listing { root, train, test_free, test, left_out })
}

/// The folder of `Real_Train` and `Real_Test` that `path` is, or holds as `CURE-TSR`.
pub fn root(path: &Path) -> Option<PathBuf> {
    let mut places = [path.to_path_buf(), path.join("CURE-TSR")].into_iter();
    places.find(|dir| dir.join("Real_Train").is_dir() && dir.join("Real_Test").is_dir())
}

/// Takes a file's name apart: `01_06_03_01_0001.bmp`. None if it does not fit the scheme.
pub fn parse_name(name: &str) -> Option<Name> {
    let (stem, _) = name.rsplit_once('.')?;
    let parts: Vec<&str> = stem.split('_').collect();
    let [sequence, sign, challenge, level, index] = parts[..] else { return None };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if parts[..4].iter().any(|part| part.len() != 2 || !digits(part))
        || index.is_empty()
        || !digits(index)
    {
        return None;
    }
    let [sequence, sign, challenge, level] =
        [sequence, sign, challenge, level].map(|part| part.parse().ok());
    let name = Name { sequence: sequence?, sign: sign?, challenge: challenge?, level: level? };
    let known = (1..=2).contains(&name.sequence)
        && (1..=SIGNS.len()).contains(&name.sign.into())
        && usize::from(name.challenge) <= CHALLENGES.len()
        && if name.challenge == 0 { name.level == 0 } else { (1..=5).contains(&name.level) };
    known.then_some(name)
}

fn parse_folder(name: &str) -> Option<(u8, u8)> {
    let (challenge, level) = name.rsplit_once('-')?;
    let position = CHALLENGES.iter().position(|known| *known == challenge)?;
    let level = level.parse().ok().filter(|level| (1..=5).contains(level))?;
    Some((position as u8 + 1, level))
}

fn group(dir: &Path, challenge: u8, level: u8, left_out: &mut Tally) -> Result<Group> {
    let paths = folder::find_images(dir, left_out)?;
    let label = |path: &PathBuf| match parse_name(&folder::name_of(path)) {
        Some(name) if (name.sequence, name.challenge, name.level) == (1, challenge, level) => {
            Ok(name.sign - 1)
        }
        _ => Err(Error::invalid(format!(
            "{}: expected a name 01_SIGN_{challenge:02}_{level:02}_INDEX.bmp with a sign from 01 \
             to 14",
            path.display()
        ))),
    };
    let labels = paths.iter().map(label).collect::<Result<_>>()?;
    Ok(Group { challenge, level, paths, labels })
}
