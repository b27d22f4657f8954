#!/usr/bin/env python3
"""Sets PyTorch and gradcon side by side on one device: throughput, and on the CPU the quality of the demo's job.

    pip install -r tools/requirements.txt
    cargo build --release
    python3 tools/compare_pytorch.py --json comparison.json
    python3 tools/compare_pytorch.py --what speed --threads 2 --steps 40
    python3 tools/compare_pytorch.py --device cuda --channels 3 --json h100.json
    python3 tools/compare_pytorch.py --what auroc --seeds 0 1 2 --epochs 30

speed: images a second in training (batch 64, gather of the batch and one read of the losses a round included), of one
model and of ten at once, and in scoring (from bytes on the host to numbers on the host). PyTorch takes part in every
form that is known to be fast: eager, channels_last, torch.compile, CUDA graphs, torch.func + vmap for several models.
A form first has to give gradcon's numbers (losses, gradients and parameters of two training steps, scores of 64
images): one that doesn't has no time, and the exit code is 4. One that can't run says why in its row. Then all take
turns, --repeats rounds each; medians count, the least and the greatest round are in brackets, and those of the ratio are
of rounds that followed each other. gradcon's numbers come from `gradcon bench steps`, on the device of the same name.
PyTorch computes in float32; --tf32 adds rows in which CUDA may round factors to 10 bits, as PyTorch does by default.

auroc: the job of `gradcon demo`, with the same images, initialisation, batches, epochs and choice of the best epoch on
both sides, each with its own random numbers (also of the tenth that validates); the area under the ROC curve on the
held-out images for every seed.

Prints Markdown; --json writes every number. The machine must have nothing else to do: PyTorch's threads wait for each
other many times in a step, so other work slows it down several times more than gradcon.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import peer_check
import peer_forms
import pytorch_gradcon as peer

# Scoring one image at a time is slow; this many tell its speed.
ONE_BY_ONE_IMAGES = 256
# Mean number of running programs in the last minute that is worth a warning.
BUSY = 0.5
# Batches in a round. On a GPU a step takes a fraction of a millisecond.
STEPS = {"cpu": 20, "cuda": 400, "mps": 200}
# Exit code where a form gives other numbers, as of the program.
DIFFERS = 4


class Gradcon:
    """The program, at the chosen number of threads."""

    def __init__(self, args):
        self.program = str(args.gradcon)
        self.device = ["--device", args.gradcon_device]
        self.environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}

    def __call__(self, *command):
        """Standard output of a command, which must succeed."""
        call = [self.program, "--quiet", *map(str, command)]
        done = subprocess.run(call, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(call)}: exit code {done.returncode}\n{done.stderr.strip()}")
        return done.stdout

    def rates(self, args, replicas):
        """Images a second of a round in training and in scoring, and the device in words."""
        sizes = ["--batch", peer.BATCH, "--channels", args.channels, "--replicas", replicas]
        result = json.loads(self("bench", "steps", "--json", "--steps", args.steps, "--rounds", 1, *sizes, *self.device))
        return {
            "training": result["train_images_per_second"],
            "scoring": result["score_images_per_second"],
            "device": result["device"],
        }


def processor():
    """The processor's name where the system tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def missing(device):
    """Why PyTorch can't use a device, or None."""
    torch_is = f"PyTorch {torch.__version__}"
    if device.type == "cuda":
        if torch.version.cuda is None:
            return f"{torch_is} is built without CUDA; expected a wheel for CUDA"
        if not torch.cuda.is_available():
            return f"{torch_is} (CUDA {torch.version.cuda}) finds no NVIDIA driver or GPU; `nvidia-smi` should list one"
        if device.index >= torch.cuda.device_count():
            return f"{torch_is} sees {torch.cuda.device_count()} CUDA device(s), counted from 0"
    elif device.type == "mps" and not torch.backends.mps.is_available():
        why = "this is no Mac with Metal" if torch.backends.mps.is_built() else "it is built without Metal"
        return f"{torch_is} can't use mps: {why}"
    return None


def about(args):
    """Device, driver and versions of PyTorch's side."""
    device, found = args.device, {"device": str(args.device), "cpu": processor(), "threads": args.threads}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        query = ["nvidia-smi", "--query-gpu=driver_version,uuid", "--format=csv,noheader"]
        try:
            lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
        except (OSError, subprocess.CalledProcessError):
            lines = []
        # nvidia-smi may count otherwise than CUDA does.
        mine = [line for line in lines if str(getattr(properties, "uuid", "")) in line] or lines[:1]
        found |= {
            "gpu": properties.name,
            "driver": mine[0].split(",")[0].strip() if mine else "unknown",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    elif device.type == "mps":
        found |= {"gpu": processor(), "macos": platform.mac_ver()[0]}
    return found


def in_words(found):
    """`about`, for people."""
    text = f"{found['cpu']}, {found['threads']} threads"
    if "gpu" in found:
        text = f"{found['gpu']}; {text}"
    for key, name in (("driver", "driver"), ("cuda", "CUDA"), ("cudnn", "cuDNN"), ("macos", "macOS")):
        text += f"; {name} {found[key]}" if key in found else ""
    return text


def wait(device):
    """Waits for all work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reason(error):
    """An error in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return f"{type(error).__name__}: {text[:200]}".replace("|", "/")


class Entry:
    """A form with what is known of it: whether it is right, a round of work, its rates."""

    def __init__(self, form):
        self.form = form
        self.note, self.differs, self.worst = None, False, None
        self.work = None
        self.rates = []

    def prepare(self, args, begin, expected, pattern):
        """Makes the form, checks its numbers and warms it up; what stands in the way becomes its note."""
        form, device = self.form, args.device
        unable = form.graphs and device.type != "cuda"
        if unable and form.compiled:
            self.note = f"not possible: CUDA graphs need --device cuda, this is {device.type}"
            return
        peer_forms.allow_tf32(form.tf32)
        try:
            if form.work == "training":
                self._training(args, begin, expected, pattern)
            else:
                self._scoring(args, expected, pattern)
            if unable:
                self.note = (
                    f"not possible: CUDA graphs need --device cuda, this is {device.type} "
                    "(the step that would be recorded gives the right numbers)"
                )
            else:
                self.run(device)  # warm-up; gradcon's bench has its own
        except peer_check.MismatchError as error:
            self.note, self.differs = f"wrong: {error}", True
        except Exception as error:  # whatever it is, the row has to say it
            self.note = f"not possible: {reason(error)}"

    def _training(self, args, begin, expected, pattern):
        replicas, device = self.form.replicas, args.device
        batches = pattern.indices if replicas == 1 else pattern.indices.unsqueeze(1).expand(-1, replicas, -1)
        data, batches = pattern.data, batches.contiguous()
        trainer = self.form.make(begin, device, data[batches[0]])
        self.worst = peer_check.check_training(trainer, begin, expected, replicas, device, self.form.tf32)

        def work():
            losses = []
            for indices in batches:
                losses.extend(loss.clone() for loss in trainer.step(data[indices]))
            if not bool(torch.isfinite(torch.stack(losses)).all()):
                raise peer_check.MismatchError("a loss is not finite")
            return batches.numel()

        self.work = work

    def _scoring(self, args, expected, pattern):
        scorer = self.form.make((expected[0].state, expected[0].references), args.device, None)
        self.worst = peer_check.check_scoring(scorer, expected, args.device, self.form.tf32)
        images = pattern.bytes
        if self.form.name.startswith("one at a time"):
            images = images[:ONE_BY_ONE_IMAGES]

        def work():
            scorer.score(images.to(args.device).float() / 255)
            return len(images)

        self.work = work

    def take_part(self, device):
        """A round that counts."""
        try:
            self.rates.append(self.run(device))
        except peer_check.MismatchError as error:
            self.note, self.differs, self.rates = f"wrong: {error}", True, []
        except Exception as error:  # the other rows are worth keeping
            self.note, self.rates = f"failed: {reason(error)}", []

    def run(self, device):
        """Images a second of a round."""
        peer_forms.allow_tf32(self.form.tf32)
        wait(device)
        start = time.perf_counter()
        images = self.work()
        wait(device)
        return images / (time.perf_counter() - start)


class Pattern:
    """The images that `gradcon bench` works on: as bytes on the host, and as a resident dataset with its batches."""

    def __init__(self, args):
        images, size, channels = peer.BATCH * args.steps, peer.IMAGE_SIZE, args.channels
        pattern = (np.arange(images * size * size * channels) * 37 % 256).astype(np.uint8)
        planes = pattern.reshape(images, size, size, channels).transpose(0, 3, 1, 2)
        self.bytes = torch.from_numpy(np.ascontiguousarray(planes))
        self.data = self.bytes.to(args.device).float() / 255
        self.indices = torch.arange(images, device=args.device).reshape(args.steps, peer.BATCH)


def chosen(args):
    """The forms that are to be measured, and the names of those that were left out."""
    training = [form for replicas in args.replicas for form in peer_forms.training_forms(replicas, args.tf32)]
    forms = training + peer_forms.scoring_forms(args.device, args.tf32)

    def named(form):
        return any(text in f"{form.work}, {form.name}" for text in args.forms)

    if not args.forms:
        return forms, []
    if not any(map(named, forms)):
        sys.exit(f"--forms {' '.join(args.forms)}: no such form; expected part of one of:\n" + known(forms))
    return [form for form in forms if named(form)], [form for form in forms if not named(form)]


def known(forms):
    """Names of forms, a line each."""
    return "\n".join(dict.fromkeys(f"  {form.work}, {form.name}" for form in forms))


def compare_speed(args, gradcon):
    """Rates of every round of both programs, in turns."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        print(
            f"warning: other programs are running (load {load:.1f}): the ratios are not to be trusted", file=sys.stderr
        )
    forms, left_out = chosen(args)
    try:
        with tempfile.TemporaryDirectory() as folder:
            expected = peer_check.expected(gradcon, args.channels, pathlib.Path(folder))
    except (peer_check.MismatchError, peer.ModelError, OSError) as error:
        sys.exit(f"gradcon's numbers, which forms are checked with: {error}")
    begin, pattern = peer_check.start(args.channels), Pattern(args)
    entries = []
    for form in forms:
        print(f"checking {form.work} of {form.replicas}: {form.name}", file=sys.stderr)
        entries.append(Entry(form))
        entries[-1].prepare(args, begin, expected, pattern)
        if entries[-1].note:
            print(f"  {entries[-1].note}", file=sys.stderr)
    ours = {"training": {replicas: [] for replicas in args.replicas}, "scoring": {1: []}}
    device = ""
    for repeat in range(args.repeats):
        print(f"round {repeat + 1} of {args.repeats}", file=sys.stderr)
        for replicas in args.replicas:
            rates = gradcon.rates(args, replicas)
            device = rates["device"]
            ours["training"][replicas].append(rates["training"])
            if replicas == args.replicas[0]:
                ours["scoring"][1].append(rates["scoring"])
        for entry in entries:
            if entry.note is None:
                entry.take_part(args.device)
    rows = [row(entry, ours[entry.form.work][entry.form.replicas]) for entry in entries]
    return {
        "batch": peer.BATCH,
        "channels": args.channels,
        "steps": args.steps,
        "repeats": args.repeats,
        "one_by_one_images": min(ONE_BY_ONE_IMAGES, peer.BATCH * args.steps),
        "gradcon_device": device,
        "load_before": load,
        "rows": rows,
        "left_out": known(left_out).splitlines(),
    }


def row(entry, gradcon):
    """What was found of a form, beside gradcon's rounds."""
    form, rates = entry.form, entry.rates
    ratios = [ours / theirs for ours, theirs in zip(gradcon, rates, strict=False)]
    return {
        "what": f"{form.work}, {form.name}",
        "work": form.work,
        "form": form.name,
        "replicas": form.replicas,
        "differs": entry.differs,
        # None: not checked.
        "difference_of_allowed": entry.worst,
        "note": entry.note,
        "pytorch": rates,
        "gradcon": gradcon,
        "ratio": statistics.median(gradcon) / statistics.median(rates) if rates else None,
        "ratios": ratios,
    }


def compare_auroc(args, gradcon):
    """AUROC of the demo's job for every seed, PyTorch and gradcon in turns."""
    (images, labels), (test_images, test_labels) = peer.fashion_subset()
    training, validation = (peer.to_input(part) for part in peer.demo_split(images, labels))
    test = peer.to_input(test_images)
    rows = []
    for seed in args.seeds:
        start = time.perf_counter()
        best = peer.train(training, validation, args.epochs, "kaiming", seed)
        scores = peer.score_vectorised(best.model, best.references, test)
        pytorch = roc_auc_score(test_labels != peer.DEMO_CLASS, scores[:, 0])
        middle = time.perf_counter()
        with tempfile.TemporaryDirectory() as out:
            demo = ["demo", "--seed", str(seed), "--epochs", str(args.epochs), "--out", out]
            stdout = gradcon(*demo, *gradcon.device)
        found = re.search(r"(\d\.\d+)  the paper's score$", stdout, re.MULTILINE)
        if not found:
            sys.exit(f"{args.gradcon} demo: no line '... the paper's score' in its output:\n{stdout}")
        seconds = {"pytorch_seconds": middle - start, "gradcon_seconds": time.perf_counter() - middle}
        rows.append({"seed": seed, "pytorch": float(pytorch), "gradcon": float(found[1]), **seconds})
        print(f"seed {seed}: PyTorch {pytorch:.4f} (epoch {best.epoch}), gradcon {found[1]}", file=sys.stderr)
    means = {side: statistics.mean(row[side] for row in rows) for side in ("pytorch", "gradcon")}
    return {"epochs": args.epochs, "rows": rows, "mean": means, "difference": means["gradcon"] - means["pytorch"]}


def markdown_speed(speed):
    def spread(values, digits):
        median, least, most = (f"{f(values):,.{digits}f}" for f in (statistics.median, min, max))
        return f"{median} ({least} to {most})"

    lines = [
        f"Batch {speed['batch']}, {speed['channels']} channel(s); medians (least to greatest) of {speed['repeats']} rounds of "
        f"{speed['steps']} batches (one at a time: {speed['one_by_one_images']} images), in turns. "
        f"gradcon: {speed['gradcon_device']}.",
        "",
        "| work | models | PyTorch's form | PyTorch images/s | gradcon images/s | gradcon / PyTorch |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in speed["rows"]:
        times = f"{spread(row['pytorch'], 0)}" if row["pytorch"] else row["note"]
        ratio = f"{row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})" if row["pytorch"] else "-"
        ours = spread(row["gradcon"], 0)
        lines.append(f"| {row['work']} | {row['replicas']} | {row['form']} | {times} | {ours} | {ratio} |")
    for work, models in dict.fromkeys((row["work"], row["replicas"]) for row in speed["rows"]):
        timed = [r for r in speed["rows"] if (r["work"], r["replicas"]) == (work, models) and r["pytorch"]]
        if timed:
            best = min(timed, key=lambda r: r["ratio"])
            lines += ["", f"PyTorch's best in {work}, {models} model(s): {best['form']}; ratio {best['ratio']:.2f}."]
    if speed["left_out"]:
        lines += ["", "Left out (--forms): " + "; ".join(name.strip() for name in speed["left_out"]) + "."]
    return lines


def markdown_auroc(auroc):
    def spread(side):
        values = [row[side] for row in auroc["rows"]]
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        return f"{auroc['mean'][side]:.4f}{deviation}"

    lines = [
        f"AUROC of the demo's job, {auroc['epochs']} epochs; mean ± sample standard deviation.",
        "",
        "| seed | PyTorch | gradcon |",
        "|---|---|---|",
    ]
    lines += [f"| {row['seed']} | {row['pytorch']:.4f} | {row['gradcon']:.4f} |" for row in auroc["rows"]]
    lines.append(f"| mean | {spread('pytorch')} | {spread('gradcon')} |")
    return [*lines, "", f"gradcon's mean minus PyTorch's: {auroc['difference']:+.4f}"]


def positive(text):
    """An argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected 1 or more")
    return value


def models(text):
    """A number of models: as many as the check has classes, at most."""
    value = positive(text)
    if value > peer_check.CLASSES:
        raise argparse.ArgumentTypeError(f"{value}: expected 1 to {peer_check.CLASSES}")
    return value


def torch_device(text):
    """A device by its name."""
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}': expected cpu, cuda, cuda:N or mps")
    return torch.device("cuda:0" if text == "cuda" else text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--what", choices=["speed", "auroc", "all"], help="[all; on a GPU speed, which is all there is]")
    parser.add_argument(
        "--device", type=torch_device, default="cpu", metavar="D", help="of PyTorch: cpu, cuda, cuda:N or mps [cpu]"
    )
    parser.add_argument(
        "--gradcon-device",
        metavar="NAME",
        help="of gradcon [the same: cpu, the name of the CUDA device, or gpu]; of several cards of one name say gpu:N",
    )
    parser.add_argument("--threads", type=positive, default=threads, metavar="N", help=f"for both programs [{threads}]")
    parser.add_argument(
        "--gradcon", type=pathlib.Path, default=peer.PROGRAM, metavar="PATH", help="[target/release/gradcon]"
    )
    steps = ", ".join(f"{n} on {device}" for device, n in STEPS.items())
    parser.add_argument("--steps", type=positive, metavar="N", help=f"speed: batches in a round [{steps}]")
    parser.add_argument("--repeats", type=positive, default=7, metavar="N", help="speed: rounds of each program [7]")
    parser.add_argument("--channels", type=int, choices=[1, 3], default=1, help="speed: channels of an image [1]")
    parser.add_argument(
        "--replicas", type=models, nargs="+", default=[1, 10], metavar="R", help="speed: models at once [1 10]"
    )
    parser.add_argument("--tf32", action="store_true", help="speed, cuda: rows with TF32, too")
    parser.add_argument(
        "--forms", nargs="+", default=[], metavar="TEXT", help="speed: only forms whose name has one of these in it"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="auroc: seeds [0 1 2]")
    parser.add_argument("--epochs", type=positive, default=30, metavar="N", help="auroc: epochs [30]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every number to this file")
    args = parser.parse_args()
    if not args.gradcon.is_file():
        parser.error(
            f"{args.gradcon}: no such program; build it with 'cargo build --release' or name it with --gradcon"
        )
    on_cpu = args.device.type == "cpu"
    if args.what is None:
        args.what = "all" if on_cpu else "speed"
    elif args.what != "speed" and not on_cpu:
        parser.error(f"--what {args.what} --device {args.device}: the quality is compared on the CPU, expected cpu")
    if args.tf32 and args.device.type != "cuda":
        parser.error(f"--tf32 --device {args.device}: only CUDA has TF32, expected cuda")
    why = missing(args.device)
    if why:
        parser.error(f"--device {args.device}: {why}")
    if args.device.type == "cuda":
        torch.cuda.set_device(args.device)
        torch.backends.cudnn.benchmark = True
    if args.gradcon_device is None:
        names = {"cpu": lambda: "cpu", "cuda": lambda: torch.cuda.get_device_name(args.device), "mps": lambda: "gpu"}
        args.gradcon_device = names[args.device.type]()
    args.steps = args.steps or STEPS[args.device.type]
    args.replicas = list(dict.fromkeys(args.replicas))
    return args


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    gradcon = Gradcon(args)
    found = about(args)
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **found,
        "pytorch": torch.__version__,
        "python": platform.python_version(),
        "gradcon": gradcon("--version").split()[-1],
    }
    print(
        f"{in_words(found)}; PyTorch {result['pytorch']} (Python {result['python']}), gradcon {result['gradcon']}; "
        f"{result['date']}"
    )
    if args.what in ("speed", "all"):
        result["speed"] = compare_speed(args, gradcon)
        print("", *markdown_speed(result["speed"]), sep="\n")
    if args.what in ("auroc", "all"):
        result["auroc"] = compare_auroc(args, gradcon)
        print("", *markdown_auroc(result["auroc"]), sep="\n")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    wrong = [row["what"] for row in result.get("speed", {}).get("rows", []) if row["differs"]]
    if wrong:
        print(f"other numbers than gradcon's: {'; '.join(wrong)}", file=sys.stderr)
        sys.exit(DIFFERS)


if __name__ == "__main__":
    main()
