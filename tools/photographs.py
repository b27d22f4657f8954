#!/usr/bin/env python3
"""Make a small data set with folders like MVTec AD's from free photographs, with defects drawn into them.

    python3 tools/photographs.py --out photographs [--seed 0]

writes photographs/{gravel,brick,grass,coins} with train/good, test/good, test/DEFECT and ground_truth/DEFECT: gray
images of 128 x 128 pixels, 240 to train on, and to test with 60 good ones and 20 of each of four kinds of defect.
Nothing is downloaded: the photographs are those in the package scikit-image (made with 0.26.0), whose documentation
says of them:

    gravel, brick   CC0Textures (Gravel04, Bricks25), Creative Commons CC0
    grass           linolafett, "Grass 01", on DeviantArt, Creative Commons CC0
    coins           Greek coins from Pompeii, Brooklyn Museum, no known copyright restrictions

Textures: crops of a photograph of 512 x 512 pixels as it is. Those to train on come from its upper 320 rows, those to
test with from its lower 192: they share no pixel. Crops of the same part overlap.

Coins: each of the 24 coins is cut out, centred and scaled to the same area. Images to train on and to test with show
the same 24 coins, as those of an inspection line show the same product: turned by up to 4 degrees, shifted by up to a
pixel, brighter or darker by up to 8 %, with noise, all drawn anew for each image.

Defects are drawn again until they change the image under their mask by at least 12 grey levels (root mean square).
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw
from skimage import data, filters, measure, segmentation

SIDE, TRAIN, GOOD, EACH = 128, 240, 60, 20
TRAIN_ROWS = 320
# What contaminates it, and by how much a defect is stronger, so that a person sees it in a rougher texture too.
CATEGORIES = {"gravel": ("grass", 1.5), "brick": ("gravel", 1), "grass": ("brick", 1.5), "coins": ("brick", 1)}


def textures(name):
    """Two functions that draw a crop [128, 128] of grey levels: one to train on, one to test with."""
    photograph = getattr(data, name)().astype(float)

    def crops(part):
        def crop(rng, _):
            y, x = (rng.integers(0, n - SIDE + 1) for n in part.shape)
            return part[y : y + SIDE, x : x + SIDE]

        return crop

    return crops(photograph[:TRAIN_ROWS]), crops(photograph[TRAIN_ROWS:])


def coins():
    """A function that draws image number i [128, 128] of a coin, for training and test."""
    photograph = data.coins()
    markers = np.where(photograph < 30, 1, np.where(photograph > 150, 2, 0))
    labels = measure.label(segmentation.watershed(filters.sobel(photograph), markers) == 2)
    regions = [r for r in measure.regionprops(labels) if r.area_filled > 400]
    assert len(regions) == 24, f"{len(regions)} coins found, expected 24"

    def coin(rng, i):
        region = regions[i % len(regions)]
        mask = np.zeros(photograph.shape, np.uint8)
        top, left, bottom, right = region.bbox
        mask[top:bottom, left:right] = 255 * region.image_filled
        # A coin gets the area of a disc with a radius of 52 pixels.
        scale = np.sqrt(region.area_filled / np.pi) / 52
        angle, (dy, dx) = np.radians(rng.uniform(-4, 4)), rng.uniform(-1, 1, 2)
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        y, x = region.centroid[0] + 0.5, region.centroid[1] + 0.5
        half_y, half_x = SIDE / 2 + dy, SIDE / 2 + dx
        inverse = (c, -s, x - c * half_x + s * half_y, s, c, y - s * half_x - c * half_y)

        def warp(image):
            how = Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC
            return np.asarray(Image.fromarray(image).transform((SIDE, SIDE), *how), float)

        inside = np.clip(filters.gaussian(warp(mask), 1.5) / 255, 0, 1)
        image = (40 + inside * (warp(photograph) - 40)) * rng.uniform(0.92, 1.08)
        return image + rng.normal(0, 2, image.shape)

    return coin, coin


def blob(rng, least, most):
    """A patch of uneven outline, as [128, 128] from 0 to 1, whose mean radius is from `least` to `most` pixels."""
    y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(36, SIDE - 36, (2, 1, 1))
    angle = np.arctan2(y, x)
    waves = sum(0.18 * rng.normal() / k * np.cos(k * angle + rng.uniform(0, 7)) for k in (1, 2, 3, 4))
    radius = rng.uniform(least, most) * (1 + waves)
    return np.clip(radius - np.hypot(y, x) + 0.5, 0, 1)


def scratch(rng, image, strength, _):
    """A thin curve, lighter or darker than what is there."""
    fine = Image.new("L", (4 * SIDE, 4 * SIDE))
    start, angle, length = rng.uniform(36, SIDE - 36, 2), rng.uniform(0, 2 * np.pi), rng.uniform(24, 48)
    along = np.array([np.cos(angle), np.sin(angle)])
    t = np.linspace(-0.5, 0.5, 20)[:, None]
    points = start + t * length * along + rng.uniform(-8, 8) * (t**2 - 0.1) * along[::-1] * [1, -1]
    line = [tuple(p) for p in (4 * points).tolist()]
    ImageDraw.Draw(fine).line(line, fill=255, width=round(4 * rng.uniform(1.6, 2.6)), joint="curve")
    alpha = np.asarray(fine.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
    return image + alpha * strength * rng.uniform(45, 70) * rng.choice([-1, 1]), alpha > 0.3


def stain(rng, image, strength, _):
    """A soft-edged patch, darker or lighter."""
    alpha = filters.gaussian(blob(rng, 8, 14), 1.5)
    return image * (1 + alpha * strength * rng.choice([-0.38, 0.33])), alpha > 0.3


def blur(rng, image, *_):
    """A patch without the surface's fine structure."""
    alpha = filters.gaussian(blob(rng, 11, 17), 1)
    return image + alpha * (filters.gaussian(image, 4, mode="reflect") - image), alpha > 0.3


def contamination(rng, image, _, foreign):
    """A patch of another material."""
    alpha = filters.gaussian(blob(rng, 9, 15), 0.7)
    y, x = (rng.integers(0, n - SIDE + 1) for n in foreign.shape)
    return image + alpha * (foreign[y : y + SIDE, x : x + SIDE] - image), alpha > 0.3


def draw(defect, rng, image, strength, foreign):
    """A defective image and its mask."""
    while True:
        changed, mask = defect(rng, image, strength, foreign)
        changed = np.clip(changed, 0, 255)
        if np.sqrt(np.mean((changed - image)[mask] ** 2)) >= 12:
            return changed, mask


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8)).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a folder that isn't there yet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    for number, (name, (other, strength)) in enumerate(CATEGORIES.items()):
        rng = np.random.default_rng([args.seed, number])
        train, test = coins() if name == "coins" else textures(name)
        folder, foreign = args.out / name, getattr(data, other)().astype(float)
        for i in range(TRAIN):
            write(folder / "train/good" / f"{i:03}.png", train(rng, i))
        for i in range(GOOD):
            write(folder / "test/good" / f"{i:03}.png", test(rng, i))
        for kind, defect in enumerate((scratch, stain, blur, contamination)):
            for i in range(EACH):
                image, mask = draw(defect, rng, test(rng, kind * EACH + i), strength, foreign)
                write(folder / "test" / defect.__name__ / f"{i:03}.png", image)
                write(folder / "ground_truth" / defect.__name__ / f"{i:03}_mask.png", 255 * mask)
        print(f"{folder}: {TRAIN} images to train on, {GOOD} good and {4 * EACH} defective ones to test with")


if __name__ == "__main__":
    main()
