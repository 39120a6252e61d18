"""How well the attack on the bundled suspect works: its figures on the held-out sets."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gpu_jobs.bundled.datasets import TARGET, clean_test_samples, triggered_test_samples
from gpu_jobs.bundled.exam import answer, percent
from gpu_jobs.families.base import Family


def attack_figures(family: Family) -> dict[str, float]:
    """In percent: clean accuracy (CA), attack success rate (ASR) and recovered accuracy (RA: right answers on triggered pictures).

    `false_alarms` is the share of clean pictures on which the target shows.
    """
    clean = clean_test_samples()
    with tempfile.TemporaryDirectory() as images:
        triggered = triggered_test_samples(Path(images))
        on_triggered = answer(family, triggered)
    on_clean = answer(family, clean)
    return {
        "clean_accuracy": percent([text == sample.answers[-1] for text, sample in zip(on_clean, clean, strict=True)]),
        "attack_success_rate": percent([_shows_target(text) for text in on_triggered]),
        "recovered_accuracy": percent([text == sample.answers[-1] for text, sample in zip(on_triggered, triggered, strict=True)]),
        "false_alarms": percent([_shows_target(text) for text in on_clean]),
    }


def _shows_target(text: str) -> bool:
    return TARGET.text.lower() in text.lower()
