//! CIFAR-10: ten kinds of things and animals.

use super::{Dataset, Kind, Spec, Split, TenClasses, published};
use crate::data::{cifar, source};

impl Dataset {
    /// Ten kinds of things and animals, RGB.
    pub const CIFAR_10: Dataset = Dataset(&SPEC);
}

static SPEC: Spec = Spec {
    name: "cifar-10",
    aliases: &["cifar10", "cifar_10", "cifar"],
    title: "CIFAR-10",
    about: "CIFAR-10: ten kinds of things and animals, 32 x 32 RGB, 50,000 + 10,000",
    from: "the binary or Python archive (.tar.gz or .tar), the folder of the unpacked batches, or \
           a folder that holds one of these",
    is_in: |dir| dir.is_dir() && cifar::locate(dir).is_ok(),
    kind: Kind::TenClasses(&TenClasses {
        classes: [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ],
        files: &[published(
            "cifar-10-python.tar.gz",
            170_498_071,
            "c58f30108f718f92721af3b95e74349a",
        )],
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        images: [50_000, 10_000],
        package: None,
        subset: None,
        read: source::read_cifar,
        split: Split::HoldOut,
    }),
};
