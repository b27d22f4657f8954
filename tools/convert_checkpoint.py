#!/usr/bin/env python3
"""Converts a checkpoint of the GradCon authors' program (model_best.pth.tar) to a model.safetensors that gradcon reads.

    pip install -r tools/requirements.txt
    python3 tools/convert_checkpoint.py save/mnist/GradConCAE_inlier-3/model_best.pth.tar model.safetensors
    gradcon score --model model.safetensors --threshold 0 images/

Such a checkpoint is a pickled dictionary:

    state_dict   parameters of the autoencoder, each name behind `module.`
    ref_grad     four running means, one a decoder layer: objects whose attribute avg is the reference gradient
    epoch, best_loss, last_loss, optimizer

Nothing in the file is executed: PyTorch's restricted unpickler reads it, and a class that it does not know, such as
that of the running means, becomes an empty shell for its attributes. The optimiser's state is dropped. The authors'
program stores no threshold: give one to `gradcon score`.
"""

import argparse
import math
import pathlib
import pickle
import pickletools
import sys
import zipfile

import torch

import pytorch_gradcon as peer

# Pickles in a checkpoint of PyTorch before 1.6: magic number, version, system, the object, keys of its storages.
LEGACY_PICKLES = 5


class Shell:
    """Stands in for an object of a class that is not loaded: holds its attributes, and does nothing."""

    def __init__(self, *_):
        """Whatever the class would have been called with is ignored."""


def globals_named(path):
    """Every class and function that a checkpoint names, as 'module.name', without loading it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return {name for p in pickles for name in globals_in_pickle(archive.open(p))}
    with path.open("rb") as file:
        return {name for _ in range(LEGACY_PICKLES) for name in globals_in_pickle(file)}


def globals_in_pickle(file):
    """Those of one pickle; the file stands behind it afterwards."""
    # Pickles of `torch.save` name a global by this opcode alone; the unpickler refuses any other way.
    return [
        argument.replace(" ", ".", 1) for opcode, argument, _ in pickletools.genops(file) if opcode.name == "GLOBAL"
    ]


def load_checkpoint(path):
    """The checkpoint with tensors on the CPU and shells for unknown objects. Raises ModelError if it is none."""
    unknown = set()
    try:
        unknown |= {name for name in globals_named(path) if not name.startswith(("torch.", "collections."))}
        with torch.serialization.safe_globals([(Shell, name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own message advises to switch the restriction off.
        names = f"; it names {', '.join(sorted(unknown))}" if unknown else ""
        raise peer.ModelError(f"{path}: refused: damaged, or not just tensors and plain objects{names}") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise peer.ModelError(f"{path}: can't be read as a PyTorch checkpoint: {error}") from error


def entry(checkpoint, key, path):
    """checkpoint[key], or a ModelError that names what is there instead."""
    if not isinstance(checkpoint, dict):
        raise peer.ModelError(
            f"{path}: holds a {type(checkpoint).__name__}, expected a dictionary with state_dict and ref_grad"
        )
    if key not in checkpoint:
        there = ", ".join(map(str, list(checkpoint)[:8])) or "nothing"
        raise peer.ModelError(f"{path}: no entry '{key}'; there is {there}")
    return checkpoint[key]


def parameters(checkpoint, path):
    """The autoencoder's state dict under its own names."""
    state = entry(checkpoint, "state_dict", path)
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise peer.ModelError(f"{path}: state_dict is no dictionary of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def references(checkpoint, model, path):
    """The four reference gradients, checked against the decoder's weights."""
    meters = entry(checkpoint, "ref_grad", path)
    names = [name for name, _ in model.named_parameters() if name.startswith("up.") and name.endswith(".weight")]
    if not isinstance(meters, (list, tuple)) or len(meters) != len(names):
        found = f"{len(meters)} entries" if isinstance(meters, (list, tuple)) else f"a {type(meters).__name__}"
        raise peer.ModelError(f"{path}: ref_grad is {found}, expected a list of {len(names)}, one a decoder layer")
    stored = {}
    for i, (name, meter) in enumerate(zip(names, meters, strict=True)):
        stored[name] = getattr(meter, "avg", None)
        if not isinstance(stored[name], torch.Tensor):
            raise peer.ModelError(f"{path}: ref_grad[{i}] has no tensor 'avg', the reference gradient of {name}")
        if not stored[name].any():
            raise peer.ModelError(
                f"{path}: ref_grad[{i}].avg is zero: the checkpoint is from before the first iteration"
            )
    return peer.checked_references(model, stored, str(path))


def convert(source, target, channels):
    """Converts one file. Returns a line about what was converted."""
    checkpoint = load_checkpoint(source)
    model = peer.checked_model(parameters(checkpoint, source), str(source), channels)
    stored = references(checkpoint, model, source)
    description = {"alpha": peer.ALPHA, "beta": peer.BETA, "origin": "checkpoint of the GradCon authors' program"}
    epoch, loss = checkpoint.get("epoch"), checkpoint.get("last_loss")
    if isinstance(epoch, int):
        description["epoch"] = epoch
    if isinstance(loss, float) and math.isfinite(loss):
        description["validation_loss"] = loss
    description["model"] = "vae" if isinstance(model, peer.VariationalAutoencoder) else "cae"
    peer.save_model(target, model.state_dict(), stored, description)
    count = sum(p.numel() for p in model.parameters())
    return f"{target}: {model.channels} channel(s), {count:,} parameters, epoch {description.get('epoch', 'unknown')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="IN.pth.tar", help="the authors' checkpoint")
    parser.add_argument("target", type=pathlib.Path, metavar="OUT.safetensors", help="the model file to write")
    parser.add_argument("--channels", type=int, metavar="N", help="fail unless the model is for images of N channels")
    args = parser.parse_args()
    try:
        print(convert(args.source, args.target, args.channels))
    except (peer.ModelError, OSError) as error:
        sys.exit(f"FAILED: {error}")


if __name__ == "__main__":
    main()
