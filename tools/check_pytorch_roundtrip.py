#!/usr/bin/env python3
"""Checks that model files pass between gradcon and PyTorch in both directions with the same scores.

    pip install -r tools/requirements.txt
    gradcon demo --out gradcon-demo
    python3 tools/check_pytorch_roundtrip.py gradcon-demo/run/models/normal/best/model.safetensors
    python3 tools/check_pytorch_roundtrip.py runs/mine/models/normal/best/model.safetensors images/*.png

Images are PNG files of 28x28 pixels; without any, the test images of Fashion-MNIST's subset in this repository.

1. gradcon -> PyTorch: the file's parameters pass load_state_dict(strict=True), and PyTorch's scores equal gradcon's;
2. PyTorch -> gradcon: a model that PyTorch trains for a moment on the same images is saved as safetensors, with a
   threshold and a weight of the cosine of its own; `gradcon score` reads it, and its scores equal PyTorch's.

Every column is compared for every image: score, mse, mean cosine, each layer's cosine. Exit code 1 if one differs by
more than --tolerance.

A gradient jumps where the input of a ReLU passes zero, so rounding alone can put two float32 programs on different
sides of a jump. An image that differs is therefore computed again in float64, once with all ReLU inputs within 2e-6 of
zero counted as positive and once as negative, and must agree with one of the two; such images are listed.
"""

import argparse
import copy
import csv
import io
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

import pytorch_gradcon as peer

# Enough iterations of the second model for references that are more than one batch's gradient.
ITERATIONS = 24
# Not the default, so that a reader who ignores the file's own weight is found out.
OTHER_BETA = 0.25
# Inputs of a ReLU of magnitude 1 that float32 sums can't tell from zero.
KINK = 2e-6


class MismatchError(Exception):
    """A broken promise; the text says which."""


class Gate(torch.nn.Module):
    """A ReLU that opens at `threshold` instead of 0."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return torch.where(x > self.threshold, x, torch.zeros_like(x))


def float64_scores(model, references, x, beta, threshold):
    """PyTorch's scores in float64 with the decoder's ReLUs opening at `threshold`."""
    model = copy.deepcopy(model).double()
    for i, layer in enumerate(model.up):
        if isinstance(layer, torch.nn.ReLU):
            model.up[i] = Gate(threshold)
    return peer.score_vectorised(model, [reference.double() for reference in references], x.double(), beta)


def read_images(paths, channels):
    """PNG files as bytes [n, 28, 28, channels]."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        if pixels.shape[:2] != (peer.IMAGE_SIZE, peer.IMAGE_SIZE):
            raise MismatchError(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected 28x28: resizing is not checked here"
            )
        images.append(pixels.reshape(peer.IMAGE_SIZE, peer.IMAGE_SIZE, channels))
    return np.stack(images)


def write_images(images, folder):
    """Writes bytes [n, 28, 28, channels] as PNG files and returns their paths, in order."""
    paths = [folder / f"{i:05}.png" for i in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).save(path)
    return paths


def parse_scores(text, source):
    """Rows of a CSV with gradcon's score columns, as dictionaries, and those columns as an array [n, 7]."""
    rows = list(csv.DictReader(io.StringIO(text)))
    missing = [column for column in ["image", *peer.COLUMNS] if rows and column not in rows[0]]
    if not rows or missing:
        raise MismatchError(f"{source}: {'no columns ' + ', '.join(missing) if missing else 'no rows'}")
    return rows, np.array([[float(row[column]) for column in peer.COLUMNS] for row in rows])


def gradcon_scores(args, model, paths, *options):
    """What `gradcon score` says about the files: rows and score columns, in the order of the files."""
    score = ["score", "--full", "--score", "paper", "--model", str(model)]
    call = [str(args.gradcon), *score, *options, "--device", args.device, *map(str, paths)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MismatchError(f"{' '.join(call[:4])} ...: exit code {done.returncode}\n{done.stderr.strip()}")
    rows, scores = parse_scores(done.stdout, "gradcon score")
    if [row["image"] for row in rows] != [str(path) for path in paths]:
        raise MismatchError(
            f"gradcon score: {len(rows)} rows that are not the {len(paths)} images in the order that was asked for"
        )
    return rows, scores


def compare(title, args, names, gradcon, model, references, x, beta):
    """Prints how far gradcon's scores are from PyTorch's of the inputs x. Returns PyTorch's scores and whether all
    images agree."""
    pytorch = peer.score_vectorised(model, references, x, beta)
    if gradcon.shape != pytorch.shape:
        raise MismatchError(f"{title}: {len(gradcon)} rows of gradcon for {len(pytorch)} images")
    distance = np.abs(gradcon - pytorch)
    differs = ~(distance <= args.tolerance).all(axis=1)  # not a number differs
    print(f"{title}: {len(names)} images, {differs.sum()} differ by more than {args.tolerance:g}")
    if differs.sum() > max(3, len(names) // 20):
        i, column = np.unravel_index(distance.argmax(), distance.shape)
        numbers = f"gradcon {gradcon[i, column]:.9f}, PyTorch {pytorch[i, column]:.9f}"
        raise MismatchError(f"{title}: too many for jumps of a ReLU; {names[i]}: {peer.COLUMNS[column]} {numbers}")
    largest = distance[~differs].max(axis=0, initial=0)
    columns = [f"{column} {d:.1e}" for column, d in zip(peer.COLUMNS, largest, strict=True)]
    print(f"  largest differences of the others: {', '.join(columns)}")
    good = True
    for i in np.flatnonzero(differs):
        sides = [float64_scores(model, references, x[i : i + 1], beta, threshold)[0] for threshold in (-KINK, KINK)]
        off = min(np.abs(gradcon[i] - side).max() for side in sides)
        explained = bool(off <= args.tolerance)
        good = good and explained
        worst = int(np.argmax(distance[i]))
        numbers = f"{peer.COLUMNS[worst]} gradcon {gradcon[i, worst]:.9f}, PyTorch {pytorch[i, worst]:.9f}"
        verdict = f"one side of a ReLU's jump in float64, to {off:.1e}" if explained else "DIFFERS"
        print(f"  {names[i]}: {numbers}: {verdict}")
    return pytorch, good


def check_gradcon_to_pytorch(args, images, paths):
    """Direction 1."""
    model, references, description = peer.load_model(args.model)
    names = [str(path) for path in paths]
    # Without a meaning here, but a model without a threshold of its own needs one.
    _, gradcon = gradcon_scores(args, args.model, paths, "--threshold", "0")
    beta = float(description.get("beta", peer.BETA))
    return compare("gradcon -> PyTorch", args, names, gradcon, model, references, peer.to_input(images), beta)[1]


def check_pytorch_to_gradcon(args, images, paths, folder):
    """Direction 2."""
    inputs = peer.to_input(images)
    model = peer.Autoencoder(images.shape[3])
    peer.initialise(model, "kaiming", 1)
    trainer = peer.Trainer(model)
    generator = torch.Generator().manual_seed(1)
    for _ in range(ITERATIONS):
        trainer.step(inputs[torch.randint(len(inputs), (peer.BATCH,), generator=generator)])
    threshold = float(np.median(peer.score_vectorised(model, trainer.references, inputs, OTHER_BETA)[:, 0]))
    file = folder / "model.safetensors"
    peer.save_model(file, model.state_dict(), trainer.references, {"beta": OTHER_BETA, "threshold": threshold})
    rows, gradcon = gradcon_scores(args, file, paths)
    names = [path.name for path in paths]
    pytorch, good = compare("PyTorch -> gradcon", args, names, gradcon, model, trainer.references, inputs, OTHER_BETA)

    # Scores next to the threshold may fall on either side of it.
    clear = np.abs(pytorch[:, 0] - threshold) > args.tolerance
    anomalous = np.array([row.get("anomalous") == "1" for row in rows])
    wrong = np.flatnonzero(clear & (anomalous != (pytorch[:, 0] >= threshold)))
    print(f"  anomalous: {len(wrong)} of {clear.sum()} images off the threshold judged otherwise")
    return good and len(wrong) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help="a model.safetensors that gradcon wrote")
    parser.add_argument(
        "images",
        type=pathlib.Path,
        nargs="*",
        metavar="IMAGE",
        help="PNG files of 28x28 pixels [the test images of this repository's subset of Fashion-MNIST]",
    )
    parser.add_argument(
        "--gradcon", type=pathlib.Path, default=peer.PROGRAM, metavar="PATH", help="[target/release/gradcon]"
    )
    parser.add_argument("--device", default="auto", help="gradcon's device [auto]")
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="T", help="largest absolute difference [1e-5]")
    args = parser.parse_args()
    if not args.gradcon.is_file():
        parser.error(
            f"{args.gradcon}: no such program; build it with 'cargo build --release' or name it with --gradcon"
        )

    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            if args.images:
                channels = peer.load_model(args.model)[0].channels
                paths, images = args.images, read_images(args.images, channels)
            else:
                images = peer.fashion_subset()[1][0]
                paths = write_images(images, folder)
            good = check_gradcon_to_pytorch(args, images, paths)
            good = check_pytorch_to_gradcon(args, images, paths, folder) and good
    except (MismatchError, peer.ModelError, OSError) as error:
        sys.exit(f"FAILED: {error}")
    if not good:
        sys.exit("FAILED: gradcon and PyTorch differ")
    print("passed: both directions agree")


if __name__ == "__main__":
    main()
