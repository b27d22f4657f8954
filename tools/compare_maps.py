#!/usr/bin/env python3
"""Which map of a whole image shows a defect best: its reconstruction's error, or the gradient of a score in its pixels?

    pip install -r tools/requirements.txt scipy scikit-learn
    python3 tools/photographs.py --out photographs
    gradcon prep mvtec --from photographs --all --size 28 --out d-28 && gradcon train --data d-28 --seeds 0,1,2 --out run-28
    python3 tools/compare_maps.py photographs run-28/seed-0 run-28/seed-1 run-28/seed-2

For each category and map, over the defective test images: AUROC of the pixels, those of the mask against all others, and
how often the map's maximum lies in the mask; means over the runs and their sample standard deviation. Maps of
`gradcon inspect --dump`, smoothed by a Gaussian of 1 / 24 of the size as those of `gradcon score --maps` are.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

import pytorch_gradcon as peer

# Images that are dumped at a time: each has a gradient in every weight.
CHUNK = 20


def maps(tensors):
    """Of each image [n, h, w], by name."""
    error = ((tensors["input"] - tensors["reconstruction"]) ** 2).mean(1)
    score, loss = (np.abs(tensors[name]).mean(1) for name in ("score_grad.input", "grad.input"))
    times = np.abs(tensors["score_grad.input"] * tensors["input"]).mean(1)
    found = {"error": error, "score's gradient": score, "times pixel": times, "error's gradient": loss}
    smooth = lambda each: np.array([gaussian_filter(image, image.shape[0] / 24) for image in each])  # noqa: E731
    return {name: smooth(each) for name, each in found.items()}


def of_run(args, run, category, files):
    """The maps of files by one of a run's models, by name."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        dump = pathlib.Path(folder, "dump.safetensors")
        for i in range(0, len(files), CHUNK):
            command = [args.gradcon, "inspect", "--model", run, "--class", category, "--device", args.device, "-q"]
            command += ["--out", pathlib.Path(folder, "page.html"), "--dump", dump, *files[i : i + CHUNK]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            parts.append(maps(load_file(dump)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path, metavar="TREE", help="what tools/photographs.py made")
    parser.add_argument("runs", type=pathlib.Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "--gradcon", type=pathlib.Path, default=peer.PROGRAM, metavar="PATH", help="[target/release/gradcon]"
    )
    parser.add_argument("--device", default="cpu", help="[cpu]")
    args = parser.parse_args()
    for category in sorted(path.name for path in args.tree.iterdir() if path.is_dir()):
        folder = args.tree / category
        files = [file for file in sorted(folder.glob("test/*/*.png")) if file.parent.name != "good"]
        rows = {}
        for run in args.runs:
            for name, each in of_run(args, run, category, files).items():
                size = each.shape[1:]
                masks = []
                for file in files:
                    mask = Image.open(folder / "ground_truth" / file.parent.name / f"{file.stem}_mask.png").convert("L")
                    masks.append(np.array(mask.resize(size[::-1], Image.BOX)) > 64)
                shown = [i for i, mask in enumerate(masks) if mask.any()]
                auroc = roc_auc_score(np.array(masks)[shown].ravel(), each[shown].ravel())
                hits = np.mean([masks[i].ravel()[each[i].argmax()] for i in shown])
                rows.setdefault(name, []).append((auroc, hits))
        for name, values in rows.items():
            numbers = zip(np.mean(values, 0), np.std(values, 0, ddof=1) if len(values) > 1 else (0, 0), strict=True)
            text = "  ".join(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in numbers)
            print(f"{category:10} {name:18} {text}", flush=True)


if __name__ == "__main__":
    main()
