#!/usr/bin/env python3
"""Prints the table QUANTILES of src/kernels/noise.rs: the normal distribution's quantiles as polynomials in fixed point.

    pip install -r tools/requirements.txt
    python3 tools/normal_quantiles.py

A random word has a sign (its highest bit) and 31 bits b, which stand for the probability p = (2 b + 1) / 2^33 of the
tail beyond the number that is wanted. Row k is for 2^-(k + 2) <= p < 2^-(k + 1), that is, for 2 b + 1 with k leading
zeros in 32 bits: coefficients of s^0 .. s^7, in units of 2^-28, of the quantile's magnitude as a polynomial in
s = 2 - p 2^(k + 2). They minimise the greatest error, and none is negative, so that unsigned arithmetic will do. The
last line is the greatest error over all rows, as the kernel computes them.
"""

from statistics import NormalDist

import numpy as np
from scipy.optimize import linprog

OCTAVES, TERMS, ONE, POINTS = 32, 8, 1 << 28, 400


def quantile(p):
    """Where the tail beyond has probability p, at most 1/2."""
    return -NormalDist().inv_cdf(p) if p < 0.5 else 0.0


def tail(octave, s):
    return (2 - s) * 2.0 ** -(octave + 2)


def row(octave):
    """The coefficients of one octave."""
    nodes = (1 - np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)) / 2
    s = np.concatenate([[0.0], nodes, [1.0]])
    x = np.array([quantile(p) for p in tail(octave, s)])
    # Unknown are the coefficients and the greatest error, in thousandths for the solver's sake.
    powers = np.vander(s, TERMS, increasing=True)
    error = np.full((len(s), 1), 1e-3)
    bounds = np.vstack([np.hstack([powers, -error]), np.hstack([-powers, -error])])
    cost = np.append(np.zeros(TERMS), 1)
    found = linprog(cost, A_ub=bounds, b_ub=np.concatenate([x, -x]), bounds=[(0, None)] * (TERMS + 1), method="highs")
    if not found.success:
        raise RuntimeError(f"octave {octave}: {found.message}")
    return [round(c * ONE) for c in found.x[:TERMS]]


def computed(coefficients, s):
    """The quantile as the kernel computes it, for s in units of 2^-32."""
    total = 0
    for c in reversed(coefficients):
        total = c + (total * s >> 32)
    return ((total + 64) >> 7) / 2**21


def main():
    worst = 0.0
    for octave in range(OCTAVES):
        coefficients = row(octave)
        print("    [" + ", ".join(f"{c:#010x}" for c in coefficients) + "],")
        for bits in {int(b) for b in np.linspace(1 << (31 - octave), (1 << (32 - octave)) - 1, 2000)}:
            word = bits | 1
            s = 2**32 - 1 - ((word << (octave + 1)) & 0xFFFFFFFF)
            worst = max(worst, abs(computed(coefficients, s) - quantile(word / 2**33)))
    print(f"// The greatest error is {worst:.1e}.")


if __name__ == "__main__":
    main()
