#!/usr/bin/env python3
"""Writes tests/fixtures/readout/*.safetensors: what PyTorch, NumPy and scikit-learn make of a model's read-outs, in float64.

    pip install -r tools/requirements.txt
    python3 tools/readout_fixtures.py

Parameters, images and references are not in the files: both sides take them from one formula (see
variational_fixtures.py). Of the images, the first TRAIN are those that the statistics are fitted on, VALIDATION follow,
and TEST come last.

| tensor | meaning |
|---|---|
| `validation` [VALIDATION, parts], `test` [TEST, parts] | mse, four cosines of the decoder, kl (variational), squared Mahalanobis distance of the code and of the gradient that reaches it, squared norm of the gradient in Fisher's metric and plain, cosine in that metric in the encoder's last layer, four cosines of the encoder |
| `scores` [TEST, rules] | by the rules of RULES, in order |
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.covariance import empirical_covariance, shrunk_covariance
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cosine_similarity, mse_loss

import pytorch_gradcon as peer
from variational_fixtures import IMAGES_KEY, REFERENCE_KEY, fill, tensor, words

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "readout"
TRAIN, VALIDATION, TEST = 150, 20, 10
BATCH, BETA = 64, 0.12
CODE_SHRINKAGE, GRADIENT_SHRINKAGE, FISHER_SHRINKAGE = 0.01, 0.1, 0.01
JOINT_SHRINKAGE = 0.01
RULES = ["paper", "reconstruction", "gradient", "encoder", "code", "code-gradient", "norm", "metric", "fisher", "auto", "joint"]


def weights(model, stack):
    return [p for name, p in model.named_parameters() if name.startswith(stack) and name.endswith("weight")]


def gradients(model, x, of):
    return torch.autograd.grad(mse_loss(model(x), x), of)


def code(model, x):
    """What an image is encoded as, the mean of the latent variable where there is one, and the gradient that reaches it
    of each image's own error."""
    if hasattr(model, "latent"):
        c = model.latent(x)[0].detach().requires_grad_()
        image = model.up(model.fc2(c).view(-1, 64, 3, 3))
    else:
        c = model.down(x).detach().requires_grad_()
        image = model.up(c)
    errors = mse_loss(image, x, reduction="none").flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(errors.sum(), c)
    return [v.detach().flatten(1).numpy() for v in (c, gradient)]


def spread(vectors, shrinkage):
    """Mean and inverse covariance."""
    covariance = shrunk_covariance(empirical_covariance(vectors), shrinkage=shrinkage)
    return vectors.mean(axis=0), np.linalg.inv(covariance)


def distance(v, mean_and_precision):
    mean, precision = mean_and_precision
    return (v - mean) @ precision @ (v - mean)


def fisher(squares):
    every = torch.cat([s.flatten() for s in squares]).mean()
    return [(1 - FISHER_SHRINKAGE) * s + FISHER_SHRINKAGE * every for s in squares]


def statistics(model, x):
    layers = weights(model, "up") + weights(model, "down")
    batches = x.split(BATCH)
    g = [gradients(model, batch, layers) for batch in batches]
    sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    means, squares = [], []
    for of_layer in zip(*g, strict=True):
        stacked = torch.stack(of_layer)
        size = sizes.view(-1, *[1] * (stacked.ndim - 1))
        mean = (size * stacked).sum(0) / sizes.sum()
        # The variance of one image's gradient, from the batches' means.
        variance = (size * (stacked - mean) ** 2).sum(0) / (len(batches) - 1)
        means.append(mean)
        squares.append(mean**2 + variance)
    return means[4:], fisher(squares[:4]), fisher(squares[7:]), *map(spread, code(model, x), [CODE_SHRINKAGE, GRADIENT_SHRINKAGE])


def parts(model, x, references, fitted):
    """A row an image, each by a pass of its own."""
    means, decoder_fisher, last_fisher, *spreads = fitted
    decoder, encoder = weights(model, "up"), weights(model, "down")
    rows = []
    for image in x.split(1):
        g = gradients(model, image, decoder + encoder)
        cosines = [cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in zip(g, references + means, strict=True)]
        row = [mse_loss(model(image), image), *cosines[:4]]
        if hasattr(model, "latent"):
            mean, log_variance = model.latent(image)
            normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
            standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
            row.append(torch.distributions.kl_divergence(normal, standard).sum())
        row += [distance(v[0], s) for v, s in zip(code(model, image), spreads, strict=True)]
        row.append(sum((a**2 / f).sum() for a, f in zip(g[:4], decoder_fisher, strict=True)))
        row.append(sum((a**2).sum() for a in g[:4]))
        root = last_fisher[0].sqrt()
        row.append(cosine_similarity((g[7] / root).flatten(), (means[3] / root).flatten(), dim=0))
        rows.append([v.item() if torch.is_tensor(v) else v for v in row + cosines[4:]])
    return np.array(rows)


def scores(validation, test):
    """By each of RULES, from the tables of parts."""

    def columns(table):
        of = {"mse": table[:, 0], "cos": table[:, 1:5].mean(axis=1), "encoder": table[:, -4:].mean(axis=1)}
        further = {"code": -9, "code-gradient": -8, "metric": -7, "norm": -6, "fisher": -5}
        return of | {name: table[:, column] for name, column in further.items()}

    normal, of = columns(validation), columns(test)

    def z(read):
        scaler = StandardScaler().fit(read(normal).reshape(-1, 1))
        return scaler.transform(read(of).reshape(-1, 1))[:, 0]

    by = {
        "paper": of["mse"] - BETA * of["cos"],
        "reconstruction": of["mse"],
        "gradient": -of["cos"],
        "encoder": -of["encoder"],
        "code": np.log(of["code"]),
        "code-gradient": np.log(of["code-gradient"]),
        "norm": np.log(of["norm"]),
        "metric": np.log(of["metric"]),
        "fisher": -of["fisher"],
        "auto": z(lambda p: np.log(p["code"])) - 0.125 * z(lambda p: p["fisher"]),
    }
    reads = np.stack([np.log(normal["mse"]), np.log(normal["code-gradient"])], axis=1)
    scaler = StandardScaler().fit(reads)
    correlations = shrunk_covariance(empirical_covariance(scaler.transform(reads)), shrinkage=JOINT_SHRINKAGE)
    away = scaler.transform(np.stack([np.log(of["mse"]), np.log(of["code-gradient"])], axis=1))
    by["joint"] = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(correlations), away))
    return np.stack([by[rule] for rule in RULES], axis=1)


def case(model):
    model = model.double()
    fill(model)
    count = TRAIN + VALIDATION + TEST
    values = (words(IMAGES_KEY, count * 784) >> np.uint64(56)).astype(np.float64)
    x = torch.from_numpy(values / 255).view(count, 1, 28, 28)
    # Bytes of noise are all alike: each image has a brightness of its own.
    x = torch.round(x * 255 * (1 + torch.arange(count) % 7).view(-1, 1, 1, 1) / 7) / 255
    references = [tensor(REFERENCE_KEY + i, *w.shape) for i, w in enumerate(weights(model, "up"))]
    train, validation, test = x.split([TRAIN, VALIDATION, TEST])
    fitted = statistics(model, train)
    tables = [parts(model, images, references, fitted) for images in (validation, test)]
    out = {"validation": tables[0], "test": tables[1], "scores": scores(*tables)}
    return {name: np.ascontiguousarray(v, dtype=np.float64) for name, v in out.items()}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(case(peer.Autoencoder(1)), OUT / "cae.safetensors")
    save_file(case(peer.VariationalAutoencoder(1)), OUT / "vae.safetensors")


if __name__ == "__main__":
    main()
