//! MVTec AD: a category of it is a tree of pictures like a user's own.

use super::folder::{TREE, find_in_tree, is_tree};
use super::{Dataset, Kind, Pictures, Spec};

impl Dataset {
    /// One category of MVTec AD.
    pub const MVTEC: Dataset = Dataset(&SPEC);
}

static SPEC: Spec = Spec {
    name: "mvtec",
    aliases: &["mvtec-ad", "mvtec_ad", "mvtecad"],
    title: "MVTec AD",
    about: "One category of MVTec AD, or of another dataset with folders like it",
    from: TREE,
    is_in: is_tree,
    kind: Kind::Pictures(&Pictures {
        own: true,
        by_folders: false,
        needs: "mvtec: it can't be downloaded by a program; get it from its authors' page \
                (https://www.mvtec.com/company/research/datasets/mvtec-ad) and name the folder of \
                one category, such as --from mvtec_anomaly_detection/bottle",
        find: find_in_tree,
    }),
};
