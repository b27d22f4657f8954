#!/usr/bin/env python3
"""Reads a folder of TensorBoard events back with TensorBoard's own reader and checks what it finds.

    pip install tensorboard pillow
    python3 tools/check_tensorboard.py RUN [--scalar TAG]... [--image TAG]... [--steps N]

Every scalar must have rising steps and finite values, every image must decode to the size it claims. A named tag must be
there; with --steps every scalar must have exactly N steps. Exit code 1 at the first broken promise.
"""

import argparse
import io
import math
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def require(holds, message):
    if not holds:
        sys.exit(f"FAILED: {message}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--scalar", action="append", default=[], metavar="TAG")
    parser.add_argument("--image", action="append", default=[], metavar="TAG")
    parser.add_argument("--steps", type=int, metavar="N")
    args = parser.parse_args()

    events = EventAccumulator(args.folder, size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    require(tags["scalars"] or tags["images"], f"{args.folder}: no scalar and no image")
    for tag in args.scalar:
        require(tag in tags["scalars"], f"no scalar {tag}; there are {tags['scalars']}")
    for tag in args.image:
        require(tag in tags["images"], f"no image {tag}; there are {tags['images']}")

    for tag in tags["scalars"]:
        points = events.Scalars(tag)
        steps = [point.step for point in points]
        require(steps == sorted(set(steps)), f"{tag}: steps do not rise: {steps}")
        require(all(math.isfinite(point.value) for point in points), f"{tag}: a value is not finite")
        if args.steps is not None:
            require(len(steps) == args.steps, f"{tag}: {len(steps)} steps, expected {args.steps}")
        print(f"scalar {tag}: {len(points)} values, steps {steps[0]} to {steps[-1]}, last {points[-1].value:.6g}")
    for tag in tags["images"]:
        pictures = events.Images(tag)
        for picture in pictures:
            decoded = Image.open(io.BytesIO(picture.encoded_image_string))
            decoded.load()
            size = (picture.width, picture.height)
            require(decoded.size == size, f"{tag}: PNG is {decoded.size}, the event says {size}")
        print(f"image {tag}: {len(pictures)} pictures, last {picture.width} x {picture.height} at step {picture.step}")
    print("OK")


if __name__ == "__main__":
    main()
