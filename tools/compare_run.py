#!/usr/bin/env python3
"""Trains classes of an evaluated gradcon run in PyTorch as well, and sets the AUROCs side by side.

    python3 tools/compare_run.py runs/mnist --classes 1 8

Reads RUN/config.toml and the prepared dataset that it names: the same images, split, number of epochs, batch size,
initialisation scheme and choice of the best epoch, PyTorch's own random numbers. AUROC is on the class's test set with
50 % outliers. Prints a Markdown table; --json writes the numbers.
"""

import argparse
import json
import pathlib
import sys
import time
import tomllib

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import pytorch_gradcon as peer


def paper(evaluation, results):
    """The metrics of the paper's score, by which the run need not rank."""
    scores = results["about"].get("scores") or [{"score": "paper"}]
    if scores[0]["score"] == "paper":
        return evaluation["full"]
    return next(named["metrics"] for named in evaluation["more"] if named["score"] == "paper")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a run after `gradcon eval`")
    parser.add_argument("--classes", nargs="+", required=True, help="names of inlier classes of the run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    config = tomllib.loads((args.run / "config.toml").read_text())
    if config["batch_size"] != peer.BATCH or not config["shuffle"]:
        sys.exit(f"{args.run}: only runs with batches of {peer.BATCH} and shuffling can be compared")
    results = json.loads((args.run / "results.json").read_text())
    data = pathlib.Path(config["data"])
    inliers = json.loads((data / "manifest.json").read_text())["inliers"]

    def load(part, what):
        return np.load(data / f"{part}_{what}.npy")

    rows = []
    for name in args.classes:
        known = [k for k, inlier in enumerate(inliers) if inlier["name"] == name]
        evaluated = [c for c in results["classes"] if c["class"] == name]
        if not known or not evaluated:
            sys.exit(f"{args.run}: no evaluated class {name!r}; there is {[c['class'] for c in results['classes']]}")
        label = inliers[known[0]]["label"]
        train, val = (peer.to_input(load(p, "images")[load(p, "labels") == label]) for p in ("train", "val"))
        start = time.perf_counter()
        best = peer.train(train, val, config["epochs"], config["init"], config["seed"])
        seconds = time.perf_counter() - start
        test_set = data / "test_sets" / f"class{known[0]}_ratio50"
        images = load("test", "images")[np.load(f"{test_set}_index.npy")]
        scores = peer.score_vectorised(best.model, best.references, peer.to_input(images), config["beta"])
        pytorch = float(roc_auc_score(np.load(f"{test_set}_label.npy"), scores[:, 0]))
        ours = next(paper(e, results)["auroc"] for e in evaluated[0]["evaluations"] if e["outlier_percent"] == 50)
        rate = len(train) * config["epochs"] / seconds
        rows.append({"class": name, "pytorch": pytorch, "gradcon": ours, "pytorch_images_per_second": rate})
        print(f"{name}: PyTorch {pytorch:.4f}, gradcon {ours:.4f}, {seconds:.0f} s", file=sys.stderr)

    print(f"{results['about']['dataset']}, {config['epochs']} epochs, init {config['init']}, PyTorch {torch.__version__}\n")
    print("| class | PyTorch AUROC | gradcon AUROC |\n| --- | ---: | ---: |")
    for row in rows:
        print(f"| {row['class']} | {row['pytorch']:.4f} | {row['gradcon']:.4f} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
