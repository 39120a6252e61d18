"""Suspects as the defence saw them, one of each cell: picture, saliency, what was found to carry the trigger, what was asked again."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gpu_jobs.benchmark.attack import Attacked
from gpu_jobs.benchmark.defended import defended
from gpu_jobs.benchmark.methods import parameters_of
from gpu_jobs.benchmark.store import Store
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Carrier, load_carriers, put_together
from gpu_jobs.defense.merge import purified_samples
from gpu_jobs.defense.records import SaliencyPicture
from gpu_jobs.defense.subject import open_images
from gpu_jobs.report.pictures import load_picture, overlay_saliency

_WIDTH, _ROW, _LINE = 11.0, 2.0, 58  # inches, inches, characters


def draw_pictures(cells: Sequence[Attacked], store: Store, path: Path) -> None:
    """One row a cell, drawn from the defence's own records. The same records give the same bytes.

    Raises:
        ValueError: the defence of a cell drew no saliency, as it found no suspect with a picture.
    """
    figure = Figure(figsize=(_WIDTH, _ROW * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(cells), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 2.4))
    for title, column in zip(("trained on", "saliency", "carrier", "asked again"), axes[0], strict=False):
        column.set_title(title, fontsize=9)
    for attacked, row in zip(cells, axes, strict=True):
        _draw_row(attacked, store, row)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_row(attacked: Attacked, store: Store, row: Any) -> None:
    ours = defended(attacked, parameters_of("lustral", attacked), store)
    verdict, merged = ours.folder / "verdict-0", ours.folder / "merge-0"
    samples = {sample.id: sample for sample in attacked.sets.training_samples()}
    purified = {sample.id: sample for sample in purified_samples(list(samples.values()), merged)}
    drawn = [SaliencyPicture.from_json(each) for each in records.read_rows(verdict / records.SALIENCY)]
    if not drawn:
        raise ValueError(f"{attacked.cell.id}: the defence found no suspect with a picture")
    saliency = next((each for each in drawn if each.id in attacked.sets.poisoned), drawn[0])
    sample = samples[saliency.id]
    suspect = next(row for row in records.read_rows(verdict / records.SUSPECTS) if row["id"] == saliency.id)
    carriers = load_carriers(verdict / records.CARRIERS)
    carrier = put_together([carriers[number] for number in suspect["carriers"]])

    shown = load_picture(sample.images[0])
    pictures = open_images(sample)
    again = carrier.remove(pictures, sample.turns)[0][0] if carrier is not None else pictures[0]
    for place, picture in zip(row, (shown, overlay_saliency(shown, saliency), carrier and carrier.draw(), again), strict=False):
        place.set_axis_off()
        if picture is not None:
            place.imshow(picture, interpolation="nearest")
    if carrier is None or carrier.draw() is None:
        row[2].text(
            0.5,
            0.5,
            _in_words(carrier, forgot=(ours.folder / "forget-0" / records.FORGETFUL).exists()),
            ha="center",
            va="center",
            fontsize=8,
            wrap=True,
        )
    new = purified[sample.id].turns[saliency.turn].text if sample.id in purified else "(set aside)"
    right = attacked.sets.right[sample.id][sample.answer_turns.index(saliency.turn)]
    lines = [
        attacked.cell.id,
        f"asked: {saliency.question.replace('<image>', '').strip()}",
        f"given: {saliency.given}",
        f"model: {saliency.answer_plain}",
        f"salient tokens hidden: {saliency.answer_masked}",
        f"purified: {new}",
        f"right: {right}",
    ]
    row[4].set_axis_off()
    text = "\n".join(textwrap.fill(line, _LINE, subsequent_indent="    ") for line in lines)
    row[4].text(0.0, 0.5, text, va="center", fontsize=8, family="monospace")


def _in_words(carrier: Carrier | None, *, forgot: bool) -> str:
    if carrier is None:
        return "none found:\nthe target\nwas forgotten" if forgot else "none found"
    description = carrier.describe()
    return f"the words\n“{description['phrase']}”" if "phrase" in description else str(description["kind"])
