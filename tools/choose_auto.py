#!/usr/bin/env python3
"""Chooses the weights of the score `auto` without looking at a test image.

    pip install -r tools/requirements.txt
    gradcon train --data data/mnist --epochs 30 --seeds 0,1,2 --out runs/mnist      # and data/fmnist
    python3 tools/choose_auto.py runs/mnist runs/fmnist

For every model of the runs, the validation images of its class are told from those of the other classes, which it has
never seen: by AUROC, for each sum of log code, log code_grad and -cos_fisher, standardised on the class's own. Printed
are the means over classes and seeds, of each run and of all, best first. Of what is the same to the fourth digit, the
sum with fewer parts is the better one.
"""

import argparse
import csv
import itertools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import tomllib

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from pytorch_gradcon import PROGRAM

SCORES = ["code", "code-gradient", "fisher"]
WEIGHTS = [0, 0.125, 0.25, 0.5]


def write_images(data, folder):
    """The validation images of a prepared dataset as PNG files; returns their classes."""
    images, labels = (np.load(data / f"val_{what}.npy") for what in ("images", "labels"))
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{i:06}.png")
    return labels


def read_scores(model, folder):
    """[images, SCORES] by one model, in the order of the files."""
    command = [PROGRAM, "score", "--model", model, "--score", ",".join(SCORES), "--quiet", folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{model}: {done.stderr.strip()}")
    rows = sorted(csv.DictReader(done.stdout.splitlines()), key=lambda row: row["image"])
    # The first score is what images are ranked by.
    return np.array([[float(row["score" if name == SCORES[0] else name]) for name in SCORES] for row in rows])


def aurocs(scores, normal):
    """For every pair of weights."""
    standardised = (scores - scores[normal].mean(axis=0)) / scores[normal].std(axis=0)
    pairs = itertools.product(WEIGHTS, WEIGHTS)
    return {pair: roc_auc_score(~normal, standardised @ np.array([1, *pair])) for pair in pairs}


def of_run(run):
    """Means over classes, a list over seeds for every pair of weights."""
    config = tomllib.loads((run / "config.toml").read_text())
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        labels = write_images(pathlib.Path(config["data"]), pathlib.Path(folder))
        for seed in config.get("seeds", [None]):
            models = (run if seed is None else run / f"seed-{seed}") / "models"
            classes = []
            for label, name in enumerate(config["inliers"]):
                safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
                scores = read_scores(models / safe / "best" / "model.safetensors", folder)
                classes.append(aurocs(scores, labels == label))
            for pair in classes[0]:
                found.setdefault(pair, []).append(statistics.mean(of[pair] for of in classes))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="runs of all classes of a dataset, in their order")
    runs = parser.parse_args().runs
    found = [of_run(run) for run in runs]
    rows = [(statistics.mean(statistics.mean(of[pair]) for of in found), pair) for pair in found[0]]
    print(f"{'all':>7}", *(f"{run.name:>20}" for run in runs), "  score")
    for mean, (gradient, fisher) in sorted(rows, reverse=True):
        cells = []
        for of in found:
            values = of[gradient, fisher]
            deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.5f} ± {deviation:.5f}".rjust(20))
        terms = f"z(log code) + {gradient} z(log code_grad) - {fisher} z(cos_fisher)"
        print(f"{mean:.5f}", *cells, f"  {terms}")


if __name__ == "__main__":
    main()
