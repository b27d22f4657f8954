#!/usr/bin/env python3
"""Writes tests/fixtures/variational/*.safetensors: what PyTorch's autograd makes of the variational model, in float64.

    pip install -r tools/requirements.txt
    python3 tools/variational_fixtures.py

Parameters, images, noise and references are not in the files: both sides take them from one formula (`values`), exact
in float32. Gradients are there as what they make of two vectors: a weight [out, ...] as a matrix G [out, rest] is in
the file as G v (`.rows`) and u G (`.columns`), so that an element in the wrong place can't hide; biases are whole.

| tensor | meaning |
|---|---|
| `loss`, `mse`, `constraint`, `divergence` [1] | L and its parts in training, with noise and references |
| `grad.<name>.rows`, `.columns` | dL/dtheta, second-order part included |
| `validation` [4] | the same four without noise |
| `reconstruction` [n, C, H, W] | without noise |
| `score.mse` [n], `score.cosines` [n, layers] | each image by a pass of its own |

c1 and c3 are of one and three channels at 28 x 28; s64 and s96 of larger images, whose stacks are halved exactly and, for
96, deeper. noise.safetensors has `noise` [7, 9] of seed, iteration and layer below for 9 features of 7 images: an independent
Philox-4x32-10 and the normal distribution's exact quantiles.
"""

import pathlib
from statistics import NormalDist

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn.functional import cosine_similarity, mse_loss

import pytorch_gradcon as peer

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "variational"
ALPHA, KL_WEIGHT = 0.5, 0.7
SEED, ITERATION, LAYER, FEATURES, IMAGES = 0x0123456789ABCDEF, 77, 3, 9, 7
IMAGES_KEY, NOISE_KEY, ROWS_KEY, COLUMNS_KEY, REFERENCE_KEY, PARAMETER_KEY = 1, 2, 3, 4, 10, 100


def words(key, count):
    """64 random bits for each of `count` counters (SplitMix64)."""
    with np.errstate(over="ignore"):
        v = np.uint64(key) * np.uint64(0xD1342543DE82EF95)
        v = v + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        v = (v ^ (v >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        v = (v ^ (v >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return v ^ (v >> np.uint64(31))


def values(key, count):
    """-1 to 1, exact in float32."""
    return (words(key, count) >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def tensor(key, *shape, scale=1.0):
    """Values times a scale, rounded to float32."""
    return torch.from_numpy((values(key, int(np.prod(shape))) * scale).astype(np.float32).astype(np.float64)).view(shape)


def fill(model):
    """Gives every parameter values of its own."""
    for k, (name, p) in enumerate(sorted(model.named_parameters())):
        if p.ndim == 1:
            scale = 0.125
        elif p.ndim == 2:
            scale = (3 / p.shape[1]) ** 0.5
        else:
            taps = 16 * p.shape[1] if name.startswith("down") else 4 * p.shape[0]
            scale = (6 / taps) ** 0.5
        p.data = tensor(PARAMETER_KEY + k, *p.shape, scale=scale)


def losses(model, x, references, noise):
    """L, L_rec, L_grad, L_KL."""
    mean, log_variance = model.latent(x)
    mse = mse_loss(model(x, noise), x)
    gradients = torch.autograd.grad(mse, model.decoder_weights(), create_graph=True)
    cosines = [cosine_similarity(g.flatten(), r.flatten(), dim=0) for g, r in zip(gradients, references, strict=True)]
    constraint = -sum(cosines) / len(cosines)
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(normal, standard).sum(dim=1).mean() / x[0].numel()
    return mse + ALPHA * constraint + KL_WEIGHT * divergence, mse, constraint, divergence


def case(size, channels, n):
    """The file of one size, number of channels and images."""
    model = peer.VariationalAutoencoder(channels, size).double()
    fill(model)
    bytes_ = (words(IMAGES_KEY, n * channels * size**2) >> np.uint64(56)).astype(np.float64)
    x = torch.from_numpy(bytes_ / 255).view(n, channels, size, size)
    noise = tensor(NOISE_KEY, n, model.fc2.in_features, scale=3**0.5)
    references = [tensor(REFERENCE_KEY + i, *w.shape) for i, w in enumerate(model.decoder_weights())]
    out = {}
    parts = losses(model, x, references, noise)
    for name, part in zip(["loss", "mse", "constraint", "divergence"], parts, strict=True):
        out[name] = part.detach().reshape(1).numpy()
    parts[0].backward()
    for name, p in model.named_parameters():
        g = p.grad.numpy()
        if g.ndim == 1:
            out[f"grad.{name}"] = g
        else:
            g = g.reshape(len(g), -1)
            out[f"grad.{name}.rows"] = g @ values(ROWS_KEY, g.shape[1])
            out[f"grad.{name}.columns"] = values(COLUMNS_KEY, g.shape[0]) @ g
    out["validation"] = torch.stack(losses(model, x, references, None)).detach().numpy()
    out["reconstruction"] = model(x).detach().numpy()
    mses, cosines = [], []
    for image in x.split(1):
        mse = mse_loss(model(image), image)
        gradients = torch.autograd.grad(mse, model.decoder_weights())
        pairs = zip(gradients, references, strict=True)
        cosines.append(torch.stack([cosine_similarity(g.flatten(), r.flatten(), dim=0) for g, r in pairs]))
        mses.append(mse.detach())
    out["score.mse"] = torch.stack(mses).numpy()
    out["score.cosines"] = torch.stack(cosines).numpy()
    return {name: np.ascontiguousarray(v, dtype=np.float64) for name, v in out.items()}


def philox(counter, key):
    """Philox-4x32-10."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def quantile(word):
    """The number that a word stands for."""
    tail = (2 * (word & 0x7FFFFFFF) + 1) / 2**33
    size = -NormalDist().inv_cdf(tail)
    return -size if word >> 31 else size


def noise():
    key = [SEED & 0xFFFFFFFF, SEED >> 32]
    drawn = [
        [quantile(philox([f // 4, i, ITERATION, LAYER], key)[f % 4]) for f in range(FEATURES)] for i in range(IMAGES)
    ]
    return {"noise": np.array(drawn)}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for channels, n in [(1, 5), (3, 2)]:
        save_file(case(peer.IMAGE_SIZE, channels, n), OUT / f"c{channels}.safetensors")
    for size, channels, n in [(64, 3, 1), (96, 1, 2)]:
        save_file(case(size, channels, n), OUT / f"s{size}.safetensors")
    save_file(noise(), OUT / "noise.safetensors")


if __name__ == "__main__":
    main()
