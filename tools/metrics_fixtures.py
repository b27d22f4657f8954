#!/usr/bin/env python3
"""Writes tests/fixtures/report/metrics.json: scores, labels and what scikit-learn makes of them.

    pip install scikit-learn
    python3 tools/metrics_fixtures.py

Label 1 = anomalous = scikit-learn's positive class. Floats are written with 17 digits, so every bit survives.
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "report" / "metrics.json"


def case(name, scores, labels):
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    fpr, tpr, thresholds = roc_curve(labels, scores)
    full_fpr, full_tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, cuts = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    # Equal F1 up to rounding counts as a tie; the highest threshold of the tie is the answer.
    best = np.flatnonzero(f1 >= f1.max() - 1e-14)[-1]
    return {
        "name": name,
        "scores": scores.tolist(),
        "labels": labels.tolist(),
        "auroc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "f1": f1[best],
        "f1_threshold": cuts[best],
        "fpr95": full_fpr[np.argmax(full_tpr >= 0.95)],
        # JSON has no infinity: the first threshold is left out.
        "roc": {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds[1:].tolist()},
    }


def main():
    rng = np.random.default_rng(20)
    cases = []
    for n, share, shift in [(2, 0.5, 0.0), (31, 0.3, 0.5), (200, 0.5, 1.0), (257, 0.1, 2.0), (400, 0.9, -0.7)]:
        labels = (np.arange(n) < max(1, int(n * share))).astype(int)
        rng.shuffle(labels)
        scores = rng.normal(size=n) + shift * labels
        cases.append(case(f"random-{n}", scores, labels))
        for levels in (2, 7):
            cases.append(case(f"tied-{n}-{levels}", np.round(scores * levels / 4) / 8, labels))
    cases.append(case("all-equal", np.zeros(9), [0, 1, 0, 0, 1, 1, 0, 1, 0]))
    cases.append(case("perfect", np.arange(20.0), [0] * 12 + [1] * 8))
    cases.append(case("inverted", -np.arange(20.0), [0] * 12 + [1] * 8))
    cases.append(case("signed-zero", [0.0, -0.0, 0.0, -0.0, 1.0], [0, 1, 1, 0, 1]))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w") as out:
        json.dump({"scikit_learn": sklearn.__version__, "cases": cases}, out)
        out.write("\n")
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
