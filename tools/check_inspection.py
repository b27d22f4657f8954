#!/usr/bin/env python3
"""Checks every tensor that `gradcon inspect --dump` writes against PyTorch's autograd.

    pip install -r tools/requirements.txt
    gradcon inspect --model runs/mine scratched.png --dump all.safetensors
    python3 tools/check_inspection.py runs/mine/models/normal/best/model.safetensors all.safetensors

The images are those in the file. PyTorch computes in float64: each layer's output, the gradient of the squared error in
every parameter and every output, and the gradient of the paper's score in the image, which takes autograd through the
gradients that the score is made of. Exit code 1 if a tensor is missing, or differs by more than --tolerance of its
largest value.

A gradient jumps where the input of a ReLU passes zero, so rounding alone can put a float32 program on the other side of
a jump. Such an image differs in a few tensors by far more than rounding; take another image to see that.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import safetensors
import torch
from torch.nn.functional import cosine_similarity, mse_loss

import pytorch_gradcon as peer


def expected(model, references, x, beta):
    """Everything that is dumped of one image [1, c, h, w], by name, without an axis for the images."""
    outputs = {}

    def keep(name):
        def hook(_module, _inputs, output):
            outputs[name] = output

        return hook

    names = {name: module for name, module in model.named_modules() if any(p is not None for p in module._parameters.values())}
    handles = [module.register_forward_hook(keep(name)) for name, module in names.items()]
    x = x.clone().requires_grad_(True)
    reconstruction = model(x)
    for handle in handles:
        handle.remove()
    mse = mse_loss(reconstruction, x)
    weights = model.decoder_weights()
    gradients = torch.autograd.grad(mse, weights, create_graph=True)
    pairs = zip(gradients, references, strict=True)
    cosines = torch.stack([cosine_similarity(g.flatten(), r.flatten(), dim=0) for g, r in pairs])
    score = mse - beta * cosines.mean()
    found = {"mse": mse, "score": score, "cosines": cosines, "input": x[0], "reconstruction": reconstruction[0]}
    found["score_grad.input"] = torch.autograd.grad(score, x, retain_graph=True)[0][0]
    of = {"grad.input": x}
    of.update({f"grad.{name}.output": output for name, output in outputs.items()})
    of.update({f"grad.{name}": parameter for name, parameter in model.named_parameters()})
    values = torch.autograd.grad(mse, list(of.values()), allow_unused=True)
    for (name, tensor), value in zip(of.items(), values, strict=True):
        value = torch.zeros_like(tensor) if value is None else value
        found[name] = value if tensor.ndim == 1 or name.endswith((".weight", ".bias")) else value[0]
    found.update({f"{name}.output": output[0] for name, output in outputs.items()})
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help="the model.safetensors that was inspected")
    parser.add_argument("dump", type=pathlib.Path, metavar="DUMP", help="what --dump wrote")
    parser.add_argument("--tolerance", type=float, default=5e-5, metavar="T", help="[5e-5]")
    args = parser.parse_args()
    try:
        model, references, description = peer.load_model(args.model)
        with safetensors.safe_open(args.dump, "np") as file:
            images = json.loads(file.metadata()["images"])
            dumped = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (peer.ModelError, OSError, KeyError, safetensors.SafetensorError) as error:
        sys.exit(f"FAILED: {error}")
    model, references = model.double(), [reference.double() for reference in references]
    worst, wrong, compared = {}, [], 0
    for i, image in enumerate(images):
        x = torch.from_numpy(dumped["input"][i : i + 1]).double()
        for name, want in expected(model, references, x, float(description.get("beta", peer.BETA))).items():
            if name not in dumped:
                # The decoder's first linear layer is seen where the next one begins.
                if name.removeprefix("grad.") != "fc2.output":
                    wrong.append(f"{name}: missing")
                continue
            found = dumped[name][i]
            compared += 1
            if found.shape != want.shape:
                wrong.append(f"{image}: {name}: shape {found.shape}, expected {want.shape}")
                continue
            off = float(np.abs(found - want).max() / max(np.abs(want).max(), 1e-30))
            off = float(np.abs(found).max()) if not np.abs(want).any() else off
            worst[name] = max(worst.get(name, 0.0), off)
            if not off <= args.tolerance:
                wrong.append(f"{image}: {name}: off by {off:.1e} of its largest value")
    for name, off in sorted(worst.items(), key=lambda item: -item[1])[:5]:
        print(f"{name:24} {off:.1e}")
    extra = set(dumped) - set(worst) - {name for name in dumped if name.startswith("ref_grad.")}
    wrong += [f"{name}: unknown" for name in sorted(extra)]
    if wrong:
        sys.exit("\n".join(["FAILED:", *wrong]))
    print(f"passed: {compared} tensors of {len(images)} images agree with PyTorch's to {args.tolerance:g}")


if __name__ == "__main__":
    main()
