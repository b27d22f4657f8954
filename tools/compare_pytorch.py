#!/usr/bin/env python3
"""Sets PyTorch and gradcon side by side on this machine's CPU: throughput, and the quality of the demo's job.

    pip install -r tools/requirements.txt
    cargo build --release
    python3 tools/compare_pytorch.py --json comparison.json
    python3 tools/compare_pytorch.py --what speed --threads 2 --steps 40
    python3 tools/compare_pytorch.py --what auroc --seeds 0 1 2 --epochs 30

speed: images a second in training (batch 64, one channel, gather of the batch included) and in scoring, at the same
number of threads. The two programs take turns, --repeats rounds each; medians count, the least and the greatest round
are in brackets. gradcon's numbers come from `gradcon bench --json`.

auroc: the job of `gradcon demo`, with the same images, initialisation, batches, epochs and choice of the best epoch on
both sides, each with its own random numbers (also of the tenth that validates); the area under the ROC curve on the held-out images for every seed.

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

import pytorch_gradcon as peer

# Scoring one image at a time is slow; this many tell its speed.
ONE_BY_ONE_IMAGES = 256
# Mean number of running programs in the last minute that is worth a warning.
BUSY = 0.5


def run_gradcon(args, *command):
    """Standard output of the program, which must succeed, at the chosen number of threads on its CPU engine."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    call = [str(args.gradcon), *command, "--device", "cpu"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(call)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def processor():
    """The processor's name where the system tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def pytorch_rounds(args):
    """PyTorch's variants: name, kind of work, and a function that does one round and returns its number of images."""
    images = peer.BATCH * args.steps
    size = peer.IMAGE_SIZE
    # The pattern that `gradcon bench` trains on.
    pattern = (np.arange(images * size * size) * 37 % 256).astype(np.uint8).reshape(images, size, size, 1)
    inputs = peer.to_input(pattern)
    batches = torch.arange(images).split(peer.BATCH)

    def training(layout):
        model = peer.Autoencoder()
        peer.initialise(model, "kaiming", 0)
        model.to(memory_format=layout)
        data = inputs.to(memory_format=layout)
        trainer = peer.Trainer(model)

        def work():
            for indices in batches:
                trainer.step(data[indices])
            return images

        return work

    model = peer.Autoencoder()
    peer.initialise(model, "kaiming", 0)
    references = [torch.full_like(weight, 1e-3) for weight in model.decoder_weights()]
    few = inputs[:ONE_BY_ONE_IMAGES]

    def one_by_one(whole):
        peer.score_one_by_one(model, references, few, whole=whole)
        return len(few)

    def vectorised():
        peer.score_vectorised(model, references, inputs)
        return images

    return [
        ("training, contiguous", "train", training(torch.contiguous_format)),
        ("training, channels_last", "train", training(torch.channels_last)),
        ("scoring one at a time, whole backward pass", "score", lambda: one_by_one(True)),
        ("scoring one at a time, decoder's gradients only", "score", lambda: one_by_one(False)),
        ("scoring vectorised, vmap(grad)", "score", vectorised),
    ]


def compare_speed(args):
    """Rates of every round of both programs, in turns."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        print(
            f"warning: other programs are running (load {load:.1f}): the ratios are not to be trusted", file=sys.stderr
        )
    variants = pytorch_rounds(args)
    for _, _, work in variants:
        work()  # warm-up; gradcon's bench has its own
    pytorch = {name: [] for name, _, _ in variants}
    gradcon = {"train": [], "score": []}
    device = ""
    for repeat in range(args.repeats):
        print(f"round {repeat + 1} of {args.repeats}", file=sys.stderr)
        result = json.loads(run_gradcon(args, "bench", "--json", "--steps", str(args.steps), "--rounds", "1"))
        device = result["device"]
        for kind, rates in gradcon.items():
            rates.append(result[f"{kind}_images_per_second"])
        for name, _, work in variants:
            start = time.perf_counter()
            images = work()
            pytorch[name].append(images / (time.perf_counter() - start))
    rows = [
        {
            "what": name,
            "pytorch": pytorch[name],
            "gradcon": gradcon[kind],
            "ratio": statistics.median(gradcon[kind]) / statistics.median(pytorch[name]),
        }
        for name, kind, _ in variants
    ]
    return {
        "batch": peer.BATCH,
        "steps": args.steps,
        "repeats": args.repeats,
        "one_by_one_images": min(ONE_BY_ONE_IMAGES, peer.BATCH * args.steps),
        "gradcon_device": device,
        "load_before": load,
        "rows": rows,
    }


def compare_auroc(args):
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
            stdout = run_gradcon(args, *demo)
        found = re.search(r"^AUROC (\d\.\d+)", stdout, re.MULTILINE)
        if not found:
            sys.exit(f"{args.gradcon} demo: no line 'AUROC ...' in its output:\n{stdout}")
        seconds = {"pytorch_seconds": middle - start, "gradcon_seconds": time.perf_counter() - middle}
        rows.append({"seed": seed, "pytorch": float(pytorch), "gradcon": float(found[1]), **seconds})
        print(f"seed {seed}: PyTorch {pytorch:.4f} (epoch {best.epoch}), gradcon {found[1]}", file=sys.stderr)
    means = {side: statistics.mean(row[side] for row in rows) for side in ("pytorch", "gradcon")}
    return {"epochs": args.epochs, "rows": rows, "mean": means, "difference": means["gradcon"] - means["pytorch"]}


def markdown_speed(speed):
    def rate(rates):
        return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"

    lines = [
        f"Batch {speed['batch']}, one channel; medians of {speed['repeats']} rounds of {speed['steps']} batches "
        f"(one at a time: {speed['one_by_one_images']} images), in turns. gradcon: {speed['gradcon_device']}.",
        "",
        "| what PyTorch does | PyTorch images/s | gradcon images/s | gradcon / PyTorch |",
        "|---|---|---|---|",
    ]
    for row in speed["rows"]:
        lines.append(f"| {row['what']} | {rate(row['pytorch'])} | {rate(row['gradcon'])} | {row['ratio']:.2f} |")
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--what", choices=["speed", "auroc", "all"], default="all")
    parser.add_argument("--threads", type=positive, default=threads, metavar="N", help=f"for both programs [{threads}]")
    parser.add_argument(
        "--gradcon", type=pathlib.Path, default=peer.PROGRAM, metavar="PATH", help="[target/release/gradcon]"
    )
    parser.add_argument("--steps", type=positive, default=20, metavar="N", help="speed: batches in a round [20]")
    parser.add_argument("--repeats", type=positive, default=7, metavar="N", help="speed: rounds of each program [7]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="auroc: seeds [0 1 2]")
    parser.add_argument("--epochs", type=positive, default=30, metavar="N", help="auroc: epochs [30]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every number to this file")
    args = parser.parse_args()
    if not args.gradcon.is_file():
        parser.error(
            f"{args.gradcon}: no such program; build it with 'cargo build --release' or name it with --gradcon"
        )

    torch.set_num_threads(args.threads)
    version = subprocess.run([args.gradcon, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": processor(),
        "threads": args.threads,
        "pytorch": torch.__version__,
        "python": platform.python_version(),
        "gradcon": version,
    }
    print(
        f"{result['cpu']}, {args.threads} threads; PyTorch {result['pytorch']} (Python {result['python']}), "
        f"gradcon {version}; {result['date']}"
    )
    if args.what in ("speed", "all"):
        result["speed"] = compare_speed(args)
        print("", *markdown_speed(result["speed"]), sep="\n")
    if args.what in ("auroc", "all"):
        result["auroc"] = compare_auroc(args)
        print("", *markdown_auroc(result["auroc"]), sep="\n")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
