#!/usr/bin/env python3
"""Make the fixtures of tests/data: what other programs say about resizing, decoding, CIFAR archives and splits.

    python3 tools/data_fixtures.py tests/fixtures/data

Needs NumPy and Pillow 13 (made with 13.0.0; older ones resize tall images in another order). Resized and decoded images are Pillow's; the splits come from a ChaCha
generator and a shuffle written here anew; the pickles are NumPy's own and, for the official archive's Python 2 form,
assembled by hand.
"""

import gzip
import io
import json
import pathlib
import pickle
import struct
import sys
import tarfile

import numpy as np
from PIL import Image

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/data")
SIDE = 28


def picture(rng, height, width, channels):
    """A test image [h, w, c]: waves, a hard edge to make the filter overshoot, and noise on one half."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        plane = 127 + 90 * np.sin(x / (2 + c) + c) * np.cos(y / (3 + c))
        plane[height // 3 :, width // 3 : width // 2] = 255 * (c % 2 == 0)
        plane[height // 2 :] += rng.integers(-60, 60, (height - height // 2, width))
        planes.append(plane)
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def to_pillow(image):
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def from_pillow(image):
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def resize_fixtures(rng):
    """Inputs [n, h, w, c] and Pillow's LANCZOS results [n, 28, 28, c]."""
    folder = OUT / "resize"
    folder.mkdir(parents=True, exist_ok=True)
    # CIFAR's size; shrinking much, enlarging, only one direction, one pixel; tall ones, whose height comes first.
    shapes = [(6, 32, 32, 3), (1, 61, 100, 1), (2, 17, 23, 3), (1, 28, 50, 1), (1, 40, 28, 3), (1, 1, 1, 3)]
    shapes += [(1, 29, 27, 1), (1, 100, 61, 1), (1, 40, 33, 3), (1, 40, 34, 3), (1, 20, 10, 1)]
    for n, h, w, c in shapes:
        images = np.stack([picture(rng, h, w, c) for _ in range(n)])
        small = [from_pillow(to_pillow(i).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for i in images]
        np.save(folder / f"{h}x{w}x{c}_in.npy", images)
        np.save(folder / f"{h}x{w}x{c}_out.npy", np.stack(small))


def image_fixtures(rng):
    """Image files of several kinds, and for 1 and 3 channels what Pillow makes of them, in order of their names."""
    folder = OUT / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rgb, gray = to_pillow(picture(rng, 36, 30, 3)), to_pillow(picture(rng, 30, 33, 1))
    alpha = Image.fromarray(rng.integers(0, 256, (36, 30), dtype=np.uint8))
    with_alpha = rgb.copy()
    with_alpha.putalpha(alpha)
    gray_alpha = Image.merge("LA", [gray, alpha.resize(gray.size)])
    for name, image in [
        ("bmp_gray.bmp", gray),
        ("bmp_rgb.BMP", rgb),
        ("png_gray.png", gray),
        ("png_gray_alpha.png", gray_alpha),
        ("png_palette.png", rgb.quantize(16)),
        ("png_rgb.png", rgb),
        ("png_rgba.PNG", with_alpha),
    ]:
        image.save(folder / name)
    # Decoders of JPEG may differ by a level or two, and more where colours are stored at half the resolution: compared
    # apart from the others, and with all colours stored.
    rgb.save(folder / "photo.jpeg", quality=90, subsampling=0)
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in (".bmp", ".png"))
    for channels, mode in [(1, "L"), (3, "RGB")]:
        def load(name):
            image = Image.open(folder / name)
            return from_pillow(image.convert(mode).resize((SIDE, SIDE), Image.Resampling.LANCZOS))

        np.save(folder / f"expected_{channels}.npy", np.stack([load(name) for name in names]))
        np.save(folder / f"expected_photo_{channels}.npy", load("photo.jpeg")[None])


def python2_batch(label, data, labels, names):
    """The bytes Python 2's cPickle writes at protocol 2 for a batch of the official archive."""

    def text(s):
        return b"U" + bytes([len(s)]) + s

    memo = iter(range(1, 256))

    def put(b):
        return b + b"q" + bytes([next(memo)])

    raw = data.tobytes()
    dtype = b"(K\x03" + put(text(b"|")) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (
        put(b"cnumpy.core.multiarray\n_reconstruct\n")
        + put(b"cnumpy\nndarray\n")
        + put(b"K\x00\x85")
        + put(text(b"b"))
        + put(b"\x87")
        + put(b"R")
        + b"(K\x01"
        + put(b"K" + bytes([data.shape[0]]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86")
        + put(b"cnumpy\ndtype\n")
        + put(text(b"u1"))
        + put(b"K\x00K\x01\x87")
        + put(b"R")
        + dtype
        + b"\x89"
        + put(b"T" + struct.pack("<I", len(raw)) + raw)
        + b"tb"
    )
    return (
        b"\x80\x02"
        + put(b"}")
        + b"("
        + put(text(b"batch_label"))
        + put(text(label))
        + put(text(b"labels"))
        + put(b"]")
        + b"("
        + b"".join(b"K" + bytes([n]) for n in labels)
        + b"e"
        + put(text(b"data"))
        + array
        + put(text(b"filenames"))
        + put(b"]")
        + b"("
        + b"".join(put(text(n)) for n in names)
        + b"eu."
    )


def archive(path, folder, files):
    """A .tar.gz with fixed times, so that the same input gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with open(path, "wb") as f, gzip.GzipFile(filename="", mode="wb", fileobj=f, mtime=0) as gz:
        gz.write(buffer.getvalue())


def cifar_fixtures(rng):
    """Two images a batch, as both official archives and as pickles of today's Python, with the images expected."""
    folder = OUT / "cifar"
    folder.mkdir(parents=True, exist_ok=True)
    batches, binary, python2 = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], [], []
    images, all_labels = [], []
    for k, name in enumerate(batches):
        batch = np.stack([picture(rng, 32, 32, 3) for _ in range(2)])
        labels = [(3 * k + 1) % 10, 9 - k]
        images.append(batch)
        all_labels += labels
        data = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).reshape(2, 3072)
        binary.append((f"{name}.bin", b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, data))))
        python2.append((name, python2_batch(b"batch", data, labels, [b"a.png", b"b.png"])))
        if k < 2:
            content = {"labels": labels, "data": data if k == 0 else np.asfortranarray(data)}
            for protocol in (1, 2, 3, 4, 5):
                (folder / f"{name}_protocol{protocol}").write_bytes(pickle.dumps(content, protocol=protocol))
    archive(folder / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", [("readme.html", b"x")] + binary)
    archive(folder / "cifar-10-python.tar.gz", "cifar-10-batches-py", [("batches.meta", b"x")] + python2)
    for (_, content), batch in zip(python2, images):
        read_back = pickle.loads(content, encoding="latin1")["data"].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)
        assert (read_back == batch).all(), "the hand-made pickle is not what Python reads"
    np.save(folder / "images.npy", np.concatenate(images))
    np.save(folder / "labels.npy", np.array(all_labels, dtype=np.uint8))


class ChaCha8:
    """ChaCha with 8 rounds, a 64-bit block counter and a 64-bit stream number; 64-bit outputs, low word first."""

    def __init__(self, seed, stream):
        self.key = struct.unpack("<8I", struct.pack("<4Q", seed, 0, 0, 0))
        self.stream, self.counter, self.words = stream, 0, []

    def block(self):
        start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *self.key]
        start += struct.unpack("<4I", struct.pack("<2Q", self.counter, self.stream))
        s = list(start)

        def quarter(a, b, c, d):
            for x, y, z, r in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                s[x] = (s[x] + s[y]) & 0xFFFFFFFF
                t = s[z] ^ s[x]
                s[z] = (t << r | t >> (32 - r)) & 0xFFFFFFFF

        for _ in range(4):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        self.counter += 1
        self.words += [(a + b) & 0xFFFFFFFF for a, b in zip(s, start)]

    def below(self, n):
        top = 2**64 - 1
        while True:
            while len(self.words) < 2:
                self.block()
            low, high = self.words[:2]
            del self.words[:2]
            x = high << 32 | low
            if x < top - top % n:
                return x % n

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


SPLIT, OUTLIERS = 1 << 32, 2 << 32


def split_fixtures(rng):
    """For some labels and seeds: the parts of both kinds of split, and test sets."""
    cases = []
    for seed in (0, 7, 2**63 + 5):
        labels = rng.integers(0, 4, 93).tolist()
        hold_out, folds = {"train": [], "val": [], "test": []}, {"train": [], "val": [], "test": []}
        for label in range(4):
            members = ChaCha8(seed, SPLIT | label).shuffle([i for i, l in enumerate(labels) if l == label])
            n = len(members)
            hold_out["val"] += members[: n // 10]
            hold_out["train"] += members[n // 10 :]
            folds["train"] += members[: n * 3 // 5]
            folds["val"] += members[n * 3 // 5 : n * 4 // 5]
            folds["test"] += members[n * 4 // 5 :]
        test_sets = []
        for inlier, ratio in [(0, 10), (2, 30), (3, 50)]:
            normal = [i for i, l in enumerate(labels) if l == inlier]
            others = ChaCha8(seed, OUTLIERS | inlier).shuffle([i for i, l in enumerate(labels) if l != inlier])
            drawn = sorted(others[: len(normal) * ratio // (100 - ratio)])
            test_sets.append(
                {"inlier": inlier, "ratio": ratio, "indices": normal + drawn, "labels": [0] * len(normal) + [1] * len(drawn)}
            )
        parts = [{k: sorted(v) for k, v in d.items()} for d in (hold_out, folds)]
        cases.append({"seed": seed, "labels": labels, "hold_out": parts[0], "folds": parts[1], "test_sets": test_sets})
    (OUT / "splits.json").write_text(json.dumps(cases) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    resize_fixtures(rng)
    image_fixtures(rng)
    cifar_fixtures(rng)
    split_fixtures(rng)


if __name__ == "__main__":
    main()
