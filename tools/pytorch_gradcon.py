"""GradCon in PyTorch: the autoencoder, training, scoring and model files, shared by the scripts beside this file.

This is the independent peer that the Rust program is compared with: plain autograd in eager mode with the fastest CPU
settings that were found. It is imported, not run:

    import pytorch_gradcon as gradcon
    (images, labels), (test_images, test_labels) = gradcon.fashion_subset()
    training, validation = gradcon.demo_split(images, labels)
    best = gradcon.train(gradcon.to_input(training), gradcon.to_input(validation), epochs=30, init="kaiming", seed=0)
    scores = gradcon.score_vectorised(best.model, best.references, gradcon.to_input(test_images))

What was tried on x86-64 cores at batch 64, and is used where it helps:

- one call of `autograd.grad` for all four decoder weights, not one call each: fewer sweeps over the same graph;
- `Adam(fused=True)`: no slower than the default anywhere;
- channels_last: 10 to 30 % faster in training, slower in scoring; the comparison reports training both ways;
- oneDNN switched off: three times slower;
- gradients of gradients by `torch.func` instead of `create_graph=True`: the same speed;
- `torch.compile`: takes no double backward of autograd; the `torch.func` form compiles for a minute and is no faster;
- scoring: a backward pass that ends at the decoder's weights is about 1.6 times as fast as a whole one, and `vmap` over
  the decoder alone, 32 images at once, is faster than over the whole model or larger chunks.
"""

import copy
import dataclasses
import gzip
import pathlib
import struct

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cosine_similarity, mse_loss

ALPHA = 0.03
BETA = 0.12
BATCH = 64
DEMO_CLASS = 7
IMAGE_SIZE = 28
COLUMNS = ["score", "mse", "cos", "cos_up0", "cos_up2", "cos_up4", "cos_up6"]

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUBSET = ROOT / "src" / "data" / "fashion"
PROGRAM = ROOT / "target" / "release" / "gradcon"

_DECODER = ["up.0.weight", "up.2.weight", "up.4.weight", "up.6.weight"]
_REFERENCE = "ref_grad."
_READOUT = "readout."
_DESCRIPTION = "gradcon."
_VMAP_CHUNK = 32


class ModelError(ValueError):
    """A file or a state dict that is no model of this kind; the text names what is wrong with it."""


def _paddings(size):
    """Of the encoder's and the decoder's layers: the paper's for 28, else as many halvings as lead to 3 or 4."""
    if size == IMAGE_SIZE:
        return [2, 2, 2, 2], [2, 1, 2, 1]
    count = 0
    while size > 4:
        if size % 2:
            raise ValueError("expected 28, or 3 or 4 times a power of two")
        size, count = size // 2, count + 1
    return [1] * count, [1] * count


class Autoencoder(nn.Module):
    """Images [n, channels, size, size] in [0, 1] to reconstructions of the same shape."""

    def __init__(self, channels=1, size=IMAGE_SIZE):
        super().__init__()
        self.channels = channels
        down, up = _paddings(size)
        widths = [channels, 32, 32, *[64] * (len(down) - 2)]
        layers = []
        for inputs, outputs, padding in zip(widths[:-1], widths[1:], down, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=padding), nn.ReLU()]
        self.down = nn.Sequential(*layers)
        widths = [*reversed(widths[1:]), channels]
        layers = []
        for inputs, outputs, padding in zip(widths[:-1], widths[1:], up, strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=padding), nn.ReLU()]
        self.up = nn.Sequential(*layers[:-1], nn.Sigmoid())
        self.side = 3 if size == IMAGE_SIZE else size >> len(down)

    def code(self, x):
        """What the decoder gets."""
        return self.down(x)

    def forward(self, x):
        return self.up(self.code(x))

    def decoder_weights(self):
        """The weights whose gradients are constrained, first layer to last."""
        return [layer.weight for layer in self.up if isinstance(layer, nn.ConvTranspose2d)]


class VariationalAutoencoder(Autoencoder):
    """The same, with a normal distribution of codes for each image between the two stacks."""

    def __init__(self, channels=1, size=IMAGE_SIZE):
        super().__init__(channels, size)
        features = 64 * self.side**2
        self.fc11 = nn.Linear(features, features)
        self.fc12 = nn.Linear(features, features)
        self.fc2 = nn.Linear(features, features)

    def latent(self, x):
        """Means and logarithms of variances, [n, features]."""
        features = self.down(x).flatten(1)
        return self.fc11(features), self.fc12(features)

    def code(self, x, noise=None):
        """With a noise [n, features] the latent variable is drawn, else it is the mean."""
        mean, log_variance = self.latent(x)
        z = mean if noise is None else mean + torch.exp(log_variance / 2) * noise
        return self.fc2(z).unflatten(1, (64, self.side, self.side))

    def forward(self, x, noise=None):
        return self.up(self.code(x, noise))


@torch.no_grad()
def initialise(model, scheme, seed):
    """Fresh parameters. "torch": PyTorch's default, uniform. "kaiming": normal with variance 2 / (taps that reach an
    output), zero biases."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        if scheme == "torch":
            # Axis 1 of the weight counts as the inputs, also in a transposed conv.
            bound = (layer.weight.shape[1] * 16) ** -0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        elif scheme == "kaiming":
            # At stride 2 a quarter of a transposed conv's 16 taps reach one output.
            taps = layer.in_channels * (4 if isinstance(layer, nn.ConvTranspose2d) else 16)
            layer.weight.normal_(0, (2 / taps) ** 0.5, generator=generator)
            layer.bias.zero_()
        else:
            raise ValueError(f"init is '{scheme}', expected 'torch' or 'kaiming'")


def _cosines(gradients, references):
    pairs = zip(gradients, references, strict=True)
    return torch.stack([cosine_similarity(g.flatten(), r.flatten(), dim=0) for g, r in pairs])


class Trainer:
    """A model in training, with its optimiser and its references: the running means of the total loss's gradients."""

    def __init__(self, model, alpha=ALPHA, lr=1e-3):
        self.model = model
        self.alpha = alpha
        self.iterations = 0
        self.references = [torch.zeros_like(w) for w in model.decoder_weights()]
        self._weights = model.decoder_weights()
        self._optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)

    def losses(self, x, create_graph=False):
        """L_rec and L_grad of a batch; with `create_graph` they can be differentiated."""
        mse = mse_loss(self.model(x), x)
        gradients = torch.autograd.grad(mse, self._weights, create_graph=create_graph)
        return mse, -_cosines(gradients, self.references).mean()

    def step(self, x):
        """One iteration. Returns L_rec and L_grad from before the update."""
        self._optimizer.zero_grad()
        if self.iterations == 0:  # no history yet: L_grad counts as 0
            mse, constraint = mse_loss(self.model(x), x), torch.zeros(())
        else:
            mse, constraint = self.losses(x, create_graph=True)
        (mse + self.alpha * constraint).backward()
        self.iterations += 1
        for reference, weight in zip(self.references, self._weights, strict=True):
            reference.lerp_(weight.grad, 1 / self.iterations)
        self._optimizer.step()
        return mse.detach(), constraint.detach()

    def validation_loss(self, x):
        """L in batches with the current references, averaged by images."""
        total = 0.0
        for batch in x.split(BATCH):
            mse, constraint = self.losses(batch)
            total += (mse.item() + self.alpha * constraint.item()) * len(batch)
        return total / len(x)


@dataclasses.dataclass
class Trained:
    """A training's best epoch by validation loss: the model and the references of that moment."""

    model: Autoencoder
    references: list
    epoch: int
    validation_loss: float


def train(images, validation, epochs, init, seed):
    """Trains on inputs [n, channels, 28, 28] in shuffled batches, the last, smaller one included. Returns the best
    epoch."""
    model = Autoencoder(images.shape[1])
    initialise(model, init, seed)
    trainer = Trainer(model)
    generator = torch.Generator().manual_seed(seed)
    best = None
    for epoch in range(1, epochs + 1):
        for indices in torch.randperm(len(images), generator=generator).split(BATCH):
            trainer.step(images[indices])
        loss = trainer.validation_loss(validation)
        if best is None or loss < best.validation_loss:
            references = [reference.clone() for reference in trainer.references]
            best = Trained(copy.deepcopy(model), references, epoch, loss)
    return best


def _score_columns(mse, cosines, beta):
    """Float64 [n, 7] in the order of COLUMNS. score = mse - beta * cos: higher is more anomalous."""
    mse, cosines = mse.cpu().double().numpy(), cosines.cpu().double().numpy()
    cos = cosines.mean(axis=1)
    return np.column_stack([mse - beta * cos, mse, cos, cosines])


def score_one_by_one(model, references, x, beta=BETA, whole=False):
    """Each image by a forward and a backward pass of its own. With `whole` the backward pass goes on through the
    encoder, as the authors' program lets it, though no score depends on that. Returns columns as COLUMNS names them."""
    wrt = list(model.parameters()) if whole else model.decoder_weights()
    decoder = [next(i for i, p in enumerate(wrt) if p is w) for w in model.decoder_weights()]
    losses, cosines = [], []
    for image in x.split(1):
        mse = mse_loss(model(image), image)
        gradients = torch.autograd.grad(mse, wrt)
        losses.append(mse.detach())
        cosines.append(_cosines([gradients[i] for i in decoder], references))
    return _score_columns(torch.stack(losses), torch.stack(cosines), beta)


def image_columns(model, references):
    """A function of images: mse [n] and cosines [n, layers] of each with its own gradient, by `vmap`."""
    parameters = {name: p.detach() for name, p in model.up.named_parameters()}
    weights = {name: p for name, p in parameters.items() if name.endswith("weight")}

    def loss(weights, code, image):
        reconstruction = functional_call(model.up, parameters | weights, (code.unsqueeze(0),))
        return mse_loss(reconstruction, image.unsqueeze(0))

    def judge(code, image):
        gradients, mse = grad_and_value(loss)(weights, code, image)
        return mse, _cosines(gradients.values(), references)

    def columns(x):
        with torch.no_grad():
            codes = model.code(x)
        return vmap(judge)(codes, x)

    return columns


def score_vectorised(model, references, x, beta=BETA):
    """The same numbers by `vmap` of the gradient, many images at once."""
    columns = image_columns(model, references)
    parts = [columns(chunk) for chunk in x.split(_VMAP_CHUNK)]
    mse, cosines = (torch.cat(part).detach() for part in zip(*parts, strict=True))
    return _score_columns(mse, cosines, beta)


def _read_idx(path):
    """A gzip-compressed IDX file of unsigned bytes as an array."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    if content[:3] != b"\0\0\x08" or rank not in (1, 3):
        raise ModelError(f"{path}: no IDX file of bytes with 1 or 3 dimensions")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fashion_subset(folder=SUBSET):
    """The dataset of `gradcon demo`: (images, labels) to train on and (images, labels) held out; images are bytes
    [n, 28, 28, 1]."""
    return tuple(
        (
            _read_idx(folder / f"{split}-images-idx3-ubyte.gz")[..., None],
            _read_idx(folder / f"{split}-labels-idx1-ubyte.gz"),
        )
        for split in ("train", "t10k")
    )


def demo_split(images, labels):
    """The normal class of `gradcon demo`: images to train on, and a tenth for validation (here the first)."""
    normal = images[labels == DEMO_CLASS]
    tenth = len(normal) // 10
    return normal[tenth:], normal[:tenth]


def to_input(images):
    """Bytes [n, 28, 28, channels] as the model's input [n, channels, 28, 28]."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def save_model(path, state, references, description):
    """Writes a model file that the Rust program reads: a PyTorch state dict, the four references, and a description,
    a dictionary of whatever can be made a string."""
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in state.items()}
    for name, reference in zip(_DECODER, references, strict=True):
        tensors[_REFERENCE + name] = reference.detach().float().contiguous()
    metadata = {_DESCRIPTION + key: str(value) for key, value in description.items()}
    safetensors.torch.save_file(tensors, path, metadata | {"format": "pt"})


def load_model(path):
    """Reads a model file: the model, strictly by its names, the references, and the description."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: {error}") from error
    # What is known of normal images is no parameter.
    beside = (_REFERENCE, _READOUT)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(beside)}
    stored = {name.removeprefix(_REFERENCE): tensor for name, tensor in tensors.items() if name.startswith(_REFERENCE)}
    model = checked_model(state, str(path))
    references = checked_references(model, stored, str(path))
    description = {key.removeprefix(_DESCRIPTION): v for key, v in metadata.items() if key.startswith(_DESCRIPTION)}
    return model, references, description


def checked_model(state, source, channels=None):
    """The model with this state dict. Raises ModelError if a name or a shape differs, or if it has not the expected
    number of `channels`."""
    first = state.get("down.0.weight")
    if first is None or first.ndim != 4:
        found = "there is none" if first is None else f"it has shape {list(first.shape)}"
        raise ModelError(f"{source}: expected a tensor down.0.weight of shape [32, channels, 4, 4]; {found}")
    if channels is not None and first.shape[1] != channels:
        raise ModelError(f"{source}: the model is for {first.shape[1]} channel(s), {channels} were asked for")
    kind = VariationalAutoencoder if "fc11.weight" in state else Autoencoder
    model = kind(first.shape[1])
    _check_tensors(state, model.state_dict(), source)
    model.load_state_dict(state, strict=True)
    return model


def checked_references(model, stored, source):
    """The references of the decoder's weights, found by the weights' names, first layer to last. Raises ModelError if a
    name or a shape differs."""
    _check_tensors(stored, dict(zip(_DECODER, model.decoder_weights(), strict=True)), f"{source}: reference gradients")
    return [stored[name].float() for name in _DECODER]


def _check_tensors(found, expected, source):
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ModelError(f"{source}: {'; '.join(parts)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(f"{source}: {name} has shape {list(tensor.shape)}, expected {list(expected[name].shape)}")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{source}: {name} holds values that are not finite")
