"""GradCon in PyTorch: the autoencoder, training, scoring and model files, for the scripts beside this file.

This is the independent peer that the Rust program is compared with: plain autograd in eager mode, with the settings that were fastest on a CPU. It
is imported, not run:

    import pytorch_gradcon as gradcon
    train, test = gradcon.fashion_subset()
    best = gradcon.train(gradcon.to_input(train.images), gradcon.to_input(validation), epochs=30, init="kaiming", seed=0)
    scores = gradcon.score_vectorised(best.model, best.references, gradcon.to_input(test.images))

Settings that were tried on two x86-64 cores, batch 64, one channel:

- one `autograd.grad` call for all four decoder weights instead of one each: fewer sweeps over the same graph, used;
- `Adam(fused=True)`: a little faster than the default, used;
- MEASURED
"""

import copy
import dataclasses
import gzip
import pathlib

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cosine_similarity, mse_loss

ALPHA = 0.03
BETA = 0.12
BATCH = 64
IMAGE_SIZE = 28
DECODER = ["up.0.weight", "up.2.weight", "up.4.weight", "up.6.weight"]
REFERENCE_PREFIX = "ref_grad."
DEMO_CLASS = 7
SUBSET = pathlib.Path(__file__).resolve().parent.parent / "src" / "data" / "fashion"


class Autoencoder(nn.Module):
    """Images [n, channels, 28, 28] in [0, 1] to reconstructions of the same shape."""

    def __init__(self, channels=1):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels, 32, 4, 2, 2), nn.ReLU(),
            nn.Conv2d(32, 32, 4, 2, 2), nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 4, 2, 2), nn.ReLU(),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(64, 64, 4, 2, 2), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, 2, 2), nn.ReLU(),
            nn.ConvTranspose2d(32, channels, 4, 2, 1), nn.Sigmoid(),
        )

    def forward(self, x):
        return self.up(self.down(x))

    def decoder_weights(self):
        """The four weights whose gradients are constrained, first layer to last."""
        return [layer.weight for layer in self.up if isinstance(layer, nn.ConvTranspose2d)]


@torch.no_grad()
def initialise(model, scheme, seed):
    """Fresh parameters: "torch" is PyTorch's default for these layers; "kaiming" is normal with variance 2 / (taps that reach an output)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if scheme == "torch":
            # Axis 1 counts as the inputs, also of a transposed conv.
            bound = (layer.weight.shape[1] * 16) ** -0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        elif scheme == "kaiming":
            # At stride 2 only a quarter of a transposed conv's 16 taps reach an output.
            taps = layer.in_channels * (4 if isinstance(layer, nn.ConvTranspose2d) else 16)
            layer.weight.normal_(0, (2 / taps) ** 0.5, generator=generator)
            layer.bias.zero_()
        else:
            raise ValueError(f"init is '{scheme}', expected 'torch' or 'kaiming'")


class Trainer:
    """A model in training, with its optimiser and references."""

    def __init__(self, model, alpha=ALPHA, lr=1e-3):
        self.model = model
        self.alpha = alpha
        self.weights = model.decoder_weights()
        self.references = [torch.zeros_like(w) for w in self.weights]
        self.iterations = 0
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=True)

    def losses(self, x, create_graph):
        """L_rec and L_grad of a batch. With `create_graph` both can be differentiated."""
        mse = mse_loss(self.model(x), x)
        gradients = torch.autograd.grad(mse, self.weights, create_graph=create_graph)
        cosines = [cosine_similarity(g.flatten(), r.flatten(), dim=0) for g, r in zip(gradients, self.references, strict=True)]
        return mse, -sum(cosines) / len(cosines)

    def step(self, x):
        """One iteration. Returns L_rec and L_grad before the update, as tensors without a graph."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.iterations == 0:  # no history yet: L is L_rec alone
            mse = mse_loss(self.model(x), x)
            constraint = torch.zeros(())
        else:
            mse, constraint = self.losses(x, create_graph=True)
        (mse + self.alpha * constraint).backward()
        self.iterations += 1
        for reference, weight in zip(self.references, self.weights, strict=True):
            reference.lerp_(weight.grad, 1 / self.iterations)
        self.optimizer.step()
        return mse.detach(), constraint.detach()

    def validation_loss(self, x):
        """L over all images in batches with the current references, averaged by images."""
        total = 0.0
        for batch in x.split(BATCH):
            mse, constraint = self.losses(batch, create_graph=False)
            total += (mse.item() + self.alpha * constraint.item()) * len(batch)
        return total / len(x)
