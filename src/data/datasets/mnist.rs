//! MNIST: handwritten digits.

use super::{Dataset, Kind, Spec, Split, TenClasses, published};
use crate::data::{idx, source};

impl Dataset {
    /// Handwritten digits, gray.
    pub const MNIST: Dataset = Dataset(&SPEC);
}

/// Where torchvision puts the files.
const PLACE: &str = "MNIST/raw";

static SPEC: Spec = Spec {
    name: "mnist",
    aliases: &[],
    title: "MNIST",
    about: "Handwritten digits, 28 x 28 gray, 60,000 + 10,000",
    from: source::IDX_FOLDER,
    is_in: |dir| idx::is_complete(&source::idx_folder(dir, PLACE)),
    kind: Kind::TenClasses(&TenClasses {
        classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        files: &[
            published("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            published("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            published("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            published("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ],
        images: [60_000, 10_000],
        package: None,
        subset: None,
        read: |path, limit| source::read_idx(path, PLACE, limit),
        split: Split::HoldOut,
    }),
};
