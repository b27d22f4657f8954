"""Whether a form of peer_forms computes what gradcon computes, for compare_pytorch.py: two training steps from the same
parameters on the same images, and the scores of the model that comes out.

gradcon's numbers are those of `gradcon train` and `gradcon score` on the device that is measured: losses of each step,
parameters and references after the last, scores of images. The first step has no history; the second has the whole
loss, with its gradient of a gradient. Both sides compute in float32 and add in other orders: losses are compared number
by number, and gradients (as the references, their running means) and the change of parameters as vectors, by the length
of the difference over the length.

A gradient jumps where the input of a ReLU passes zero, so rounding alone puts a few images on the other side of a
jump, and Adam makes a whole step of a small gradient's sign. So half of the models have to agree closely, and all of
them roughly: no rounding turns an error of a formula into agreement to six digits.
"""

import csv
import dataclasses
import json
import struct

import numpy as np
import torch
from PIL import Image

import pytorch_gradcon as peer

STEPS = 2
# Images of a class in the raw data: a tenth of them, rounded down, goes to validation, and one batch is left.
_RAW = 71
CLASSES = 10
# Forms for fewer models take the classes in several runs.
MOST_RUNS = 5
# Largest differences of losses, mean gradients and changes of parameters: where nothing jumps, and where something does
# (or where TF32 rounds factors to 10 bits). They are 1e-6, 3e-6 and 1e-5 on a CPU where nothing jumps.
CLOSE, ROUGH = (1e-5, 2e-4, 5e-4), (1e-2, 0.1, 0.1)
SCORE, SCORE_TF32 = 1e-5, 1e-2
# The part of the images that may be scored on the other side of a jump.
JUMPS = 0.05


class MismatchError(Exception):
    """A form that computes something else; the text says what."""


@dataclasses.dataclass
class Expected:
    """What gradcon says of one class: images, losses after each step, and the model that comes out."""

    images: torch.Tensor
    losses: np.ndarray
    state: dict
    references: list
    scores: np.ndarray


def _raw_images(channels, rng):
    """Bytes [n, size, size, channels] with structure, so that layers differ in what they see."""
    n, size = _RAW * CLASSES, 28 if channels == 1 else 32
    y, x = np.mgrid[0:size, 0:size] / size
    turn, pitch, shift = (rng.uniform(low, high, (n, 1, 1, channels)) for low, high in ((0, 6.3), (2, 14), (0, 6.3)))
    wave = np.sin(pitch * (x[None, :, :, None] * np.cos(turn) + y[None, :, :, None] * np.sin(turn)) + shift)
    return (127.5 + 100 * wave + rng.uniform(-27, 27, wave.shape)).astype(np.uint8)


def _write_raw(folder, channels):
    """A dataset in MNIST's or CIFAR-10's files: its name, and ten classes of images."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(CLASSES, dtype=np.uint8), _RAW)
    images = _raw_images(channels, rng)
    few = slice(0, 4 * CLASSES)
    folder.mkdir()
    if channels == 1:

        def idx(name, array):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / name).write_bytes(header + array.tobytes())

        for part, which in (("train", slice(None)), ("t10k", few)):
            idx(f"{part}-images-idx3-ubyte", images[which, :, :, 0])
            idx(f"{part}-labels-idx1-ubyte", labels[which])
        return "mnist"
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.concatenate([labels[:, None], planes], axis=1)
    for i, part in enumerate(np.array_split(records, 5)):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(part.tobytes())
    (folder / "test_batch.bin").write_bytes(records[few].tobytes())
    return "cifar-10"


def start(channels):
    """The parameters that both sides start from."""
    model = peer.Autoencoder(channels)
    peer.initialise(model, "kaiming", 0)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def expected(gradcon, channels, folder):
    """What gradcon says of ten classes, trained at once. `gradcon(*arguments)` runs it and returns its output;
    `gradcon.device` are the arguments that name the device."""
    dataset = _write_raw(folder / "raw", channels)
    data, run, first = folder / "data", folder / "run", folder / "start.safetensors"
    gradcon("prep", dataset, "--from", folder / "raw", "--out", data)
    state = start(channels)
    peer.save_model(first, state, [torch.zeros_like(state[name]) for name in peer._DECODER], {"channels": channels})
    settings = ["--batch-size", peer.BATCH, "--epochs", STEPS, "--no-shuffle", "--alpha", peer.ALPHA]
    options = ["--data", data, "--inlier", "all", "--init-from", first, "--out", run]
    gradcon("train", *settings, *options, *gradcon.device)
    images, labels = (np.load(data / f"train_{what}.npy") for what in ("images", "labels"))
    found = []
    names = [inlier["name"] for inlier in json.loads((data / "manifest.json").read_text())["inliers"]]
    for label, name in enumerate(names):
        own = images[labels == label]
        if len(own) != peer.BATCH:
            raise MismatchError(f"gradcon prep: {len(own)} images of class {name}, expected {peer.BATCH}")
        with (run / "models" / name / "metrics.csv").open() as file:
            losses = [[float(row["train_mse"]), float(row["train_constraint"])] for row in csv.DictReader(file)]
        last = run / "models" / name / "last" / "model.safetensors"
        model, references, _ = peer.load_model(last)
        scores = _scores(gradcon, last, own, folder) if label == 0 else None
        state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        found.append(Expected(peer.to_input(own), np.array(losses), state, references, scores))
    return found


def _scores(gradcon, model, images, folder):
    """gradcon's score columns of images."""
    paths = [folder / f"{i:03}.png" for i in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    text = gradcon("score", "--full", "--score", "paper", "--model", model, "--threshold", 0, *gradcon.device, *paths)
    return np.array([[float(row[column]) for column in peer.COLUMNS] for row in csv.DictReader(text.splitlines())])


def _length(tensors):
    return float(torch.sqrt(sum((t.double() ** 2).sum() for t in tensors)))


def _apart(trainer, begin, wanted, device):
    """Takes the steps, for each model on its own images. Returns for each how far losses, mean gradients and changes of
    parameters are from gradcon's."""
    several = len(wanted) > 1
    batch = (torch.stack([of.images for of in wanted]) if several else wanted[0].images).to(device)
    trainer.restart(begin)
    losses = []
    for _ in range(STEPS):
        losses.append(torch.stack([loss.detach().clone() for loss in trainer.step(batch)]).cpu())
    losses = torch.stack(losses).double().numpy().reshape(STEPS, 2, len(wanted))
    parameters, references = trainer.models()
    found = []
    for i, of in enumerate(wanted):

        def own(tensor, i=i):
            return (tensor.detach()[i] if several else tensor.detach()).cpu()

        gradients = [own(mine) - theirs for mine, theirs in zip(references, of.references, strict=True)]
        parts = [own(parameters[name]) - of.state[name] for name in begin]
        changes = [of.state[name] - begin[name] for name in begin]
        found.append(
            (
                float(np.abs(losses[:, :, i] - of.losses).max()),
                _length(gradients) / _length(of.references),
                _length(parts) / _length(changes),
            )
        )
    return found


def check_training(trainer, begin, wanted, replicas, device, tf32=False):
    """Compares with gradcon's training, model by model. Returns the median model's worst difference as a part of what is
    allowed. Raises MismatchError."""
    starts = range(0, len(wanted) - replicas + 1, replicas)[:MOST_RUNS]
    found = [apart for i in starts for apart in _apart(trainer, begin, wanted[i : i + replicas], device)]
    # Not a number is worse than any.
    found = np.nan_to_num(np.array(found), nan=np.inf)
    for which, numbers in (("the worst model", found.max(axis=0)), ("the median model", np.median(found, axis=0))):
        allowed = ROUGH if tf32 or which == "the worst model" else CLOSE
        for what, number, most in zip(("a loss", "the gradient", "the change of parameters"), numbers, allowed, strict=True):
            if number > most:
                raise MismatchError(f"{what} of {which} differs from gradcon's by {number:.1e}, allowed {most:.0e}")
    return float((np.median(found, axis=0) / (ROUGH if tf32 else CLOSE)).max())


def check_scoring(scorer, wanted, device, tf32=False):
    """Scores the first class's images and compares with gradcon's. Returns the worst difference as a part of what is
    allowed. Raises MismatchError."""
    allowed = SCORE_TF32 if tf32 else SCORE
    got = scorer.score(wanted[0].images.to(device))
    if got.shape != wanted[0].scores.shape:
        raise MismatchError(f"scores of shape {got.shape}, gradcon's have {wanted[0].scores.shape}")
    distance = np.nan_to_num(np.abs(got - wanted[0].scores).max(axis=1), nan=np.inf)
    worst = float(np.sort(distance)[len(distance) - 1 - int(JUMPS * len(distance))])
    if worst > allowed:
        raise MismatchError(f"a score differs from gradcon's by {worst:.1e}, allowed {allowed:.0e}")
    return worst / allowed
