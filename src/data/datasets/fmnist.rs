//! Fashion-MNIST: clothes. A part of it is [inside the program](crate::data::embedded).

use super::{Dataset, Kind, Package, Spec, Split, Subset, TenClasses, published};
use crate::data::{idx, prepare, source};

impl Dataset {
    /// Fashion-MNIST: clothes, gray.
    pub const FMNIST: Dataset = Dataset(&SPEC);
}

/// The ten classes, by label.
pub const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Where torchvision puts the files.
const PLACE: &str = "FashionMNIST/raw";

static SPEC: Spec = Spec {
    name: "fmnist",
    aliases: &["fashion-mnist", "fashion_mnist", "fashionmnist", "fashion"],
    title: "Fashion-MNIST",
    about: "Fashion-MNIST: clothes, 28 x 28 gray, 60,000 + 10,000 pooled into five folds",
    from: source::IDX_FOLDER,
    is_in: |dir| idx::is_complete(&source::idx_folder(dir, PLACE)),
    kind: Kind::TenClasses(&TenClasses {
        classes: CLASSES,
        files: &[
            published("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            published("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            published("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            published("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
        mirrors: &[
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        images: [60_000, 10_000],
        package: Some(Package {
            name: "Debian's package dataset-fashion-mnist",
            dir: "/usr/share/datasets/fashion-mnist",
        }),
        subset: Some(Subset {
            what: "the small part of Fashion-MNIST (5,800 images)",
            prepare: prepare::fashion_subset_at,
        }),
        read: |path, limit| source::read_idx(path, PLACE, limit),
        split: Split::Folds,
    }),
};
