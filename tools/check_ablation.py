#!/usr/bin/env python3
"""Compares the rows of an ablation with PyTorch: every model's AUROC by reconstruction, latent and gradient.

    gradcon ablate --data DATA --inlier 1 --epochs 4 --init kaiming --out ablations/one
    python3 tools/check_ablation.py ablations/one DATA

Scores the test images of the ablation's first class with the weights and references of each model file, each image by
a pass of its own through PyTorch's autograd, and takes scikit-learn's AUROC. Exits with 1 where a row is off by more
than 0.0005: ranks of near ties may differ in float32.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import pytorch_gradcon as peer

TOLERANCE = 5e-4


def latent(model, x):
    """KL(N(m, s^2) || N(0, I)) of each image's code, in nats."""
    mean, log_variance = model.latent(x)
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return torch.distributions.kl_divergence(normal, standard).sum(dim=1).detach().double().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    args = parser.parse_args()
    ablation = json.loads((args.ablation / "ablation.json").read_text())
    if len(ablation["seeds"]) > 1:
        sys.exit(f"{args.ablation}: means over several seeds; expected an ablation of one")
    manifest = json.loads((args.data / "manifest.json").read_text())
    percent = ablation["outlier_percent"]
    images = np.load(args.data / "test_images.npy")
    worst = 0.0
    for variant in ablation["variants"]:
        last = variant["after"][-1]
        rows = {(s["class"], s["score"]): s["metrics"]["auroc"] for s in last["scores"]}
        name = next(s["class"] for s in last["scores"])
        sets = [s for s in manifest["test_sets"] if manifest["inliers"][s["inlier"]]["name"] == name]
        chosen = next((s for s in sets if s.get("ratio") == round(percent)), sets[-1])
        index, label = (np.load(args.data / "test_sets" / f"{chosen['name']}_{what}.npy") for what in ("index", "label"))
        (file,) = (args.ablation / variant["folder"] / "models").glob("*/best/model.safetensors")
        model, references, _ = peer.load_model(file)
        x = peer.to_input(images[index])
        columns = peer.score_one_by_one(model, references, x)
        found = {"reconstruction": columns[:, 1], "gradient": -columns[:, 2]}
        if variant["model"] == "vae":
            found["latent"] = latent(model, x)
        for score, values in found.items():
            ours, theirs = rows[name, score], roc_auc_score(label, values)
            worst = max(worst, abs(ours - theirs))
            print(f"{variant['folder']:24} {score:16} {ours:.5f}  PyTorch {theirs:.5f}")
    print(f"largest difference {worst:.6f}")
    if not worst <= TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    main()
