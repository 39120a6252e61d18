"""A mixture of two normal distributions on a line, fitted by expectation and maximisation from the best split in two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

ROUNDS = 500
TOLERANCE = 1e-6
# The narrowest component, as a part of the spread of all values: equal values must not look infinitely well separated.
NARROWEST = 1e-2


@dataclass(frozen=True, slots=True)
class Mixture:
    """means, deviations, weights: [2], the component of the lower mean first."""

    means: Values
    deviations: Values
    weights: Values

    @property
    def separation(self) -> float:
        """Distance of the means in sums of the deviations; 0 where all values are equal."""
        spread = float(self.deviations.sum())
        return float(self.means[1] - self.means[0]) / spread if spread > 0 else 0.0

    def is_low(self, values: Values) -> NDArray[np.bool_]:
        """Which values the lower component explains better: [n]."""
        if self.deviations.min() <= 0:
            return np.zeros(len(values), dtype=bool)
        densities = log_densities(values, self)
        return np.asarray(densities[:, 0] > densities[:, 1])


def fit_mixture(values: Values) -> Mixture:
    """values: [n], at least one."""
    spread = float(values.std())
    if spread == 0:
        return Mixture(np.full(2, values[0]), np.zeros(2), np.array([1.0, 0.0]))
    low = best_split(values)
    shares = np.stack([low, ~low], axis=1).astype(np.float64)  # [n, 2]
    before = -np.inf
    for _ in range(ROUNDS):
        mixture = _maximise(values, shares, NARROWEST * spread)
        densities = log_densities(values, mixture)
        total = np.logaddexp(densities[:, 0], densities[:, 1])
        shares = np.exp(densities - total[:, None])
        if abs(total.mean() - before) < TOLERANCE:
            break
        before = total.mean()
    return _ordered(mixture)


def best_split(values: Values) -> NDArray[np.bool_]:
    """The values on the lower side of the cut that leaves least variance on both sides (2-means on a line)."""
    ordered = np.sort(values)
    counts = np.arange(1, len(ordered))
    sums = ordered.cumsum()[:-1]
    # Least variance within the sides is most between them.
    between = counts * (sums / counts - ordered.mean()) ** 2 * len(ordered) / (len(ordered) - counts)
    return np.asarray(values <= ordered[between.argmax()])


def log_densities(values: Values, mixture: Mixture) -> Values:
    """Of each value under each component, weight included: [n, 2]."""
    scaled = (values[:, None] - mixture.means) / mixture.deviations
    with np.errstate(divide="ignore"):  # a component that died has weight 0
        return np.asarray(np.log(mixture.weights) - np.log(mixture.deviations) - 0.5 * scaled**2 - 0.5 * np.log(2 * np.pi))


def _maximise(values: Values, shares: Values, narrowest: float) -> Mixture:
    counts = shares.sum(axis=0).clip(min=1e-12)
    means = (shares * values[:, None]).sum(axis=0) / counts
    variances = (shares * (values[:, None] - means) ** 2).sum(axis=0) / counts
    return Mixture(means, np.sqrt(variances).clip(min=narrowest), counts / counts.sum())


def _ordered(mixture: Mixture) -> Mixture:
    order = mixture.means.argsort(kind="stable")
    return Mixture(mixture.means[order], mixture.deviations[order], mixture.weights[order])
