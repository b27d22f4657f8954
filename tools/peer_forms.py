"""The forms in which PyTorch takes GradCon's training step and gives its scores, for compare_pytorch.py.

A form is a way to the same numbers: plain autograd, `torch.func` (with `vmap` for several models at once),
`torch.compile`, CUDA graphs, memory layouts. `training_forms` and `scoring_forms` list them; what a device or this PyTorch
can't do raises when the form is made, and its text says why. Nothing here is timed.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.nn.functional import mse_loss

import pytorch_gradcon as peer

LR = 1e-3
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def plain(function):
    """The function as it is."""
    return function


@dataclasses.dataclass
class Form:
    """A way to do `work` ("training" or "scoring") for `replicas` models at once. `make` builds it on a device from a
    start: state dict and, to score, references."""

    work: str
    name: str
    make: Callable
    replicas: int = 1
    compiled: bool = False
    # Needs CUDA graphs. Elsewhere the recorded step is only checked.
    graphs: bool = False
    # PyTorch's own default on NVIDIA: factors of convolutions are rounded to 10 bits.
    tf32: bool = False


def _zero(tensors):
    for tensor in tensors:
        tensor.zero_()


def _forget(optimizer):
    """An optimiser as before its first step. Its tensors stay where they are."""
    for tensors in optimizer.state.values():
        _zero(tensors.values())


class Eager:
    """One model by autograd, as in pytorch_gradcon."""

    def __init__(self, state, device, layout):
        model = peer.Autoencoder(state["down.0.weight"].shape[1])
        model.load_state_dict(state)
        self.trainer = peer.Trainer(model.to(device, memory_format=layout), lr=LR)

    def restart(self, state):
        """Everything as before the first step, with these parameters."""
        self.trainer.model.load_state_dict(state)
        self.trainer.iterations = 0
        _zero(self.trainer.references)
        _forget(self.trainer._optimizer)

    def step(self, x):
        """One iteration on a batch. Returns L_rec and L_grad, on the device."""
        mse, constraint = self.trainer.step(x)
        return mse, constraint.to(mse.device)

    def models(self):
        """Parameters by name, and references."""
        return dict(self.trainer.model.named_parameters()), self.trainer.references


class Compiled(Eager):
    """One model by autograd, with the model compiled."""

    def __init__(self, state, device, layout):
        super().__init__(state, device, layout)
        model = self.trainer.model
        compiled = torch.compile(model)
        losses = self.trainer.losses

        def through_compiled(x, create_graph=False):
            self.trainer.model = compiled
            try:
                return losses(x, create_graph)
            finally:
                self.trainer.model = model

        self.trainer.losses = through_compiled


class Functional:
    """One model, or several at once with a leading axis everywhere, by `torch.func`. No Python number changes from step
    to step, so that a step can be recorded."""

    def __init__(self, state, device, replicas=None, layout=CONTIGUOUS, wrap=plain):
        module = peer.Autoencoder(state["down.0.weight"].shape[1]).to(device)
        self.decoder = [n for n, p in module.named_parameters() if any(p is w for w in module.decoder_weights())]

        def own(tensor):
            tensor = tensor.to(device)
            if replicas is not None:
                return tensor.expand(replicas, *tensor.shape).contiguous()
            return tensor.clone(memory_format=layout if tensor.ndim == 4 else torch.preserve_format)

        self.parameters = {name: own(tensor) for name, tensor in state.items()}
        self.references = [torch.zeros_like(self.parameters[name]) for name in self.decoder]
        self.iterations = torch.zeros((), device=device)
        one = self._gradients(module)
        self.gradients = wrap(one if replicas is None else vmap(one))
        on_cuda = device.type == "cuda"
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=LR, fused=True, capturable=on_cuda)

    def _gradients(self, module):
        """Gradients of the total loss of one model, and its two parts. A reference of zeros has the cosine 0 with
        everything and adds no gradient, as it should be before there is a history."""

        def total(parameters, references, x):
            def reconstruction(weights):
                return mse_loss(functional_call(module, parameters | weights, (x,)), x)

            gradients, mse = grad_and_value(reconstruction)({name: parameters[name] for name in self.decoder})
            constraint = -peer._cosines([gradients[name] for name in self.decoder], references).mean()
            return mse + peer.ALPHA * constraint, (mse, constraint)

        return grad(total, has_aux=True)

    def step(self, x):
        """One iteration on a batch [n, c, 28, 28], or one for each model. Returns L_rec and L_grad, on the device."""
        gradients, losses = self.gradients(self.parameters, self.references, x)
        self.iterations += 1
        for reference, name in zip(self.references, self.decoder, strict=True):
            reference.lerp_(gradients[name], 1 / self.iterations)
        for name, parameter in self.parameters.items():
            gradient = gradients[name]
            # The fused optimiser walks memory, so both must lie alike, as autograd sees to where it fills .grad.
            if gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        self.optimizer.step()
        return losses

    def models(self):
        """Parameters by name, and references."""
        return self.parameters, self.references

    def restart(self, state):
        """Everything as before the first step, with these parameters. Tensors stay where they are."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state[name].to(parameter.device))
        _zero([*self.references, self.iterations])
        _forget(self.optimizer)


class CudaGraphs:
    """Records work once and replays it without the host. Only where there is CUDA."""

    @staticmethod
    def warm_up(work):
        """Has libraries choose and allocate, on a stream of its own as PyTorch's manual asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()

    @staticmethod
    def record(work):
        """What replays the work, and what tells its results, which the next replay overwrites."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = work()
        return graph.replay, lambda: results


class Again:
    """Stands for `CudaGraphs` elsewhere, so that everything around the recording can be checked: replaying does the
    work once more, into the same results."""

    @staticmethod
    def warm_up(work):
        for _ in range(3):
            work()

    @staticmethod
    def record(work):
        # A recording leaves no trace, so the first results are only a place.
        results = None

        def replay():
            nonlocal results
            now = work()
            if results is None:
                results = now
                return
            for place, value in zip(results, now, strict=True):
                place.copy_(value)

        return replay, lambda: results


class Captured:
    """A `Functional` form whose step is recorded with its own memory for the batch."""

    def __init__(self, form, example):
        recorder = CudaGraphs if example.is_cuda else Again
        self.form, self.x = form, example.clone()
        begin = {name: parameter.clone() for name, parameter in form.parameters.items()}
        # Also makes the optimiser's tensors, which a recorded step has to find in their places.
        recorder.warm_up(self._work)
        self.replay, self.results = recorder.record(self._work)
        form.restart(begin)

    def restart(self, state):
        """Everything as before the first step, with these parameters."""
        self.form.restart(state)

    def _work(self):
        return self.form.step(self.x)

    def step(self, x):
        """As `Functional.step`; the results are good until the next step."""
        self.x.copy_(x)
        self.replay()
        return self.results()

    def models(self):
        """Parameters by name, and references."""
        return self.form.models()


def training_forms(replicas, tf32=False):
    """The forms of a training step, for one model or several."""
    forms = []

    def form(name, make, **more):
        forms.append(Form("training", name, make, replicas, **more))

    if replicas == 1:
        for layout, name in ((CONTIGUOUS, "contiguous"), (CHANNELS_LAST, "channels_last")):
            form(f"eager, {name}", lambda s, d, _, layout=layout: Eager(s, d, layout))
        form("torch.compile, autograd", lambda s, d, _: Compiled(s, d, CONTIGUOUS), compiled=True)
        several, what, layouts = None, "torch.func", ((CONTIGUOUS, ""), (CHANNELS_LAST, ", channels_last"))
    else:
        several, what, layouts = replicas, "torch.func + vmap", ((CONTIGUOUS, ""),)
        form(what, lambda s, d, _: Functional(s, d, several))
    form(
        f"torch.compile, {what}", lambda s, d, _: Functional(s, d, several, wrap=torch.compile), compiled=True
    )
    for layout, name in layouts:
        form(
            f"CUDA graphs, {what}{name}",
            lambda s, d, x, layout=layout: Captured(Functional(s, d, several, layout), x),
            graphs=True,
        )
    form(
        f"CUDA graphs, torch.compile, {what}",
        lambda s, d, x: Captured(Functional(s, d, several, wrap=torch.compile), x),
        graphs=True,
        compiled=True,
    )
    return forms + _rounded(forms, tf32)


class OneByOne:
    """Scores, an image at a time."""

    def __init__(self, model, references, whole):
        self.model, self.references, self.whole = model, references, whole

    def score(self, x):
        """Columns as peer.COLUMNS names them."""
        return peer.score_one_by_one(self.model, self.references, x, whole=self.whole)


class Vectorised:
    """Scores, `chunk` images at once by `vmap` of the gradient. Recorded, every chunk has that many images."""

    def __init__(self, model, references, chunk, wrap=plain, recorder=None):
        self.chunk, self.recorder = chunk, recorder
        self.replay = None
        self.columns = wrap(peer.image_columns(model, references))

    def _recorded(self, x):
        if self.replay is None:
            self.x = torch.zeros(self.chunk, *x.shape[1:], device=x.device)
            self.recorder.warm_up(lambda: self.columns(self.x))
            self.replay, self.results = self.recorder.record(lambda: self.columns(self.x))
        # The last chunk may be smaller; what lies behind it is scored for nothing.
        self.x[: len(x)].copy_(x)
        self.replay()
        return tuple(result[: len(x)].clone() for result in self.results())

    def score(self, x):
        """Columns as peer.COLUMNS names them."""
        one = self.columns if self.recorder is None else self._recorded
        parts = [one(chunk) for chunk in x.split(self.chunk)]
        mse, cosines = (torch.cat(columns).detach() for columns in zip(*parts, strict=True))
        return peer._score_columns(mse, cosines, peer.BETA)


def scoring_forms(device, tf32=False):
    """The forms of scoring. Chunks of 32 images are the fastest on a CPU; a GPU wants more."""
    forms = []

    def form(name, make, **more):
        def on_device(start, device, _):
            state, references = start
            model = peer.Autoencoder(state["down.0.weight"].shape[1])
            model.load_state_dict(state)
            return make(model.to(device), [reference.to(device) for reference in references])

        forms.append(Form("scoring", name, on_device, **more))

    form("one at a time, whole backward pass", lambda m, r: OneByOne(m, r, whole=True))
    form("one at a time, decoder's gradients only", lambda m, r: OneByOne(m, r, whole=False))
    recorder = CudaGraphs if device.type == "cuda" else Again
    for chunk in (32,) if device.type == "cpu" else (64, 512):
        what = f"vmap(grad) of {chunk}"
        form(what, lambda m, r, chunk=chunk: Vectorised(m, r, chunk))
        form(
            f"torch.compile, {what}",
            lambda m, r, chunk=chunk: Vectorised(m, r, chunk, torch.compile),
            compiled=True,
        )
        form(
            f"CUDA graphs, {what}",
            lambda m, r, chunk=chunk: Vectorised(m, r, chunk, recorder=recorder),
            graphs=True,
        )
    return forms + _rounded(forms, tf32)


def _rounded(forms, wanted):
    """The same forms with TF32, if that is wanted."""
    return [dataclasses.replace(form, name=f"{form.name}, TF32", tf32=True) for form in forms if wanted]


def allow_tf32(allowed):
    """Whether CUDA's convolutions and products may round their factors."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
