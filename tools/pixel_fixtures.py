#!/usr/bin/env python3
"""Writes tests/fixtures/report/pixels.json: maps, masks, and what scikit-learn and SciPy make of them.

    pip install scikit-learn scipy
    python3 tools/pixel_fixtures.py

PRO threshold by threshold, as its definition says: regions by scipy.ndimage.label (8 neighbours), the mean share of a region
at or above each threshold over the share of normal pixels there, area up to 0.3 by the trapezoid rule over 0.3. Maps hold
whole numbers, so that many pixels share a value.
"""

import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy import ndimage
from sklearn.metrics import roc_auc_score

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "report" / "pixels.json"


def pro(maps, masks, limit=0.3):
    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[i][labels == k] for k in range(1, count + 1)]
    normal = maps[masks == 0]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((np.mean(normal >= threshold), overlap))
    fpr, overlap = np.array(points).T
    inside = fpr <= limit
    end = np.interp(limit, fpr, overlap)
    x, y = np.append(fpr[inside], limit), np.append(overlap[inside], end)
    return np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2) / limit, len(regions)


def case(name, rng, n, size, levels, lift):
    masks = np.zeros((n, size, size), int)
    for mask in masks[n // 3 :]:
        for _ in range(rng.integers(1, 4)):
            y, x, h, w = *rng.integers(0, size - 2, 2), *rng.integers(1, size // 3, 2)
            mask[y : y + h, x : x + w] = 1
        # A corner that touches: one region with 8 neighbours, two with 4.
        mask[0, 0] = mask[1, 1] = 1
    maps = rng.integers(0, levels, masks.shape) + lift * masks * rng.integers(0, 2, masks.shape)
    area, regions = pro(maps, masks)
    return {
        "name": name,
        "size": size,
        "maps": maps.ravel().tolist(),
        "masks": masks.ravel().tolist(),
        "auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pro": area,
        "regions": regions,
    }


def main():
    rng = np.random.default_rng(7)
    cases = [
        case("few levels", rng, 5, 13, 6, 3),
        case("many levels", rng, 4, 20, 1000, 600),
        case("as by chance", rng, 3, 17, 12, 0),
    ]
    about = {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
    OUT.write_text(json.dumps({"about": about, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
