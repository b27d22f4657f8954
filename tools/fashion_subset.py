#!/usr/bin/env python3
"""Make the small Fashion-MNIST subset that ships with gradcon.

    python3 tools/fashion_subset.py /usr/share/datasets/fashion-mnist src/data/fashion

Takes the first N images of each class, in their original order, from the official training and test files, and writes
four gzip-compressed IDX files with the official names plus PROVENANCE.md. One class (the demo's inlier class) gets more
images than the others. Needs nothing beyond the standard library; the same input gives the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import struct

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

PROVENANCE = """# Where these files come from

A subset of Fashion-MNIST (Zalando SE, 2017, MIT licence: see LICENSE beside this file;
<https://github.com/zalandoresearch/fashion-mnist>), made by

    python3 tools/fashion_subset.py DIR src/data/fashion{arguments}

where DIR holds the four official files, for example /usr/share/datasets/fashion-mnist of Debian's package
dataset-fashion-mnist. For each class the first images in the official order are kept, unchanged and in that order.
Reference: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv 1708.07747.

| split | images of class {demo} ({demo_name}) | of each other class | all |
|---|---|---|---|
| train | {train_demo} | {train_other} | {train_all} |
| test | {test_demo} | {test_other} | {test_all} |

SHA-256 of each file as shipped, of its content, and of the official content it was made from. Another zlib may
compress to other bytes; the content stays the same.

| file | shipped | content | official content |
|---|---|---|---|
{rows}
"""


def read_idx(path, ndim):
    """The shape and the raw bytes of a gzip-compressed IDX file of unsigned bytes, and the SHA-256 of its content."""
    content = gzip.decompress(path.read_bytes())
    magic = 0x0800 + ndim
    found = struct.unpack_from(">I", content)[0]
    if found != magic:
        raise SystemExit(f"{path}: magic number {found:#010x}, expected {magic:#010x}")
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    body = content[4 + 4 * ndim :]
    size = 1
    for n in shape:
        size *= n
    if len(body) != size:
        raise SystemExit(f"{path}: {len(body)} bytes of data, expected {size} for shape {shape}")
    return shape, body, hashlib.sha256(content).hexdigest()


def write_idx(path, shape, body):
    """Writes the file and returns the SHA-256 of the file and of its uncompressed content."""
    content = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape) + body
    buffer = io.BytesIO()
    # No name and no time in the header: the same content must give the same file.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as f:
        f.write(content)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest(), hashlib.sha256(content).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="folder of the four official .gz files")
    parser.add_argument("out", type=pathlib.Path, help="folder to write to")
    parser.add_argument("--demo-class", type=int, default=7, help="class that gets more images (7 = Sneaker)")
    parser.add_argument("--train-demo", type=int, default=2000, help="training images of the demo class")
    parser.add_argument("--train-other", type=int, default=300, help="training images of each other class")
    parser.add_argument("--test-demo", type=int, default=200, help="test images of the demo class")
    parser.add_argument("--test-other", type=int, default=100, help="test images of each other class")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    rows, totals = [], {}
    for split, prefix in [("train", "train"), ("test", "t10k")]:
        images_name, labels_name = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        shape, images, images_sha = read_idx(args.source / images_name, 3)
        (count,), labels, labels_sha = read_idx(args.source / labels_name, 1)
        if count != shape[0]:
            raise SystemExit(f"{labels_name}: {count} labels for {shape[0]} images")
        wanted = [getattr(args, f"{split}_other")] * len(CLASSES)
        wanted[args.demo_class] = getattr(args, f"{split}_demo")
        left, keep = list(wanted), []
        for i, label in enumerate(labels):
            if left[label]:
                left[label] -= 1
                keep.append(i)
        if any(left):
            raise SystemExit(f"{labels_name}: too few images; missing per class: {left}")
        size = shape[1] * shape[2]
        body = b"".join(images[i * size : (i + 1) * size] for i in keep)
        totals[split] = len(keep)
        for name, out_shape, out, official in [
            (images_name, (len(keep), *shape[1:]), body, images_sha),
            (labels_name, (len(keep),), bytes(labels[i] for i in keep), labels_sha),
        ]:
            shipped, content = write_idx(args.out / name, out_shape, out)
            rows.append(f"| {name} | {shipped} | {content} | {official} |")

    changed = [
        f" --{name.replace('_', '-')} {getattr(args, name)}"
        for name in ["demo_class", "train_demo", "train_other", "test_demo", "test_other"]
        if getattr(args, name) != parser.get_default(name)
    ]
    text = PROVENANCE.format(
        arguments="".join(changed),
        demo=args.demo_class,
        demo_name=CLASSES[args.demo_class],
        train_demo=args.train_demo,
        train_other=args.train_other,
        train_all=totals["train"],
        test_demo=args.test_demo,
        test_other=args.test_other,
        test_all=totals["test"],
        rows="\n".join(rows),
    )
    (args.out / "PROVENANCE.md").write_text(text)


if __name__ == "__main__":
    main()
