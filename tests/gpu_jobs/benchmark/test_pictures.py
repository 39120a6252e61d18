"""Suspects drawn from a defence's own records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from gpu_jobs.benchmark import pictures
from gpu_jobs.benchmark.attack import Attacked, Settings, prepare
from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.defended import Defended
from gpu_jobs.benchmark.injection import Recipe
from gpu_jobs.benchmark.pictures import draw_pictures
from gpu_jobs.benchmark.sets import Sizes
from gpu_jobs.benchmark.store import Store
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Carrier, Pieces, Words, save_carriers
from gpu_jobs.defense.records import Conversation, SaliencyPicture, Suspect, Window

CELL = Cell("easy_vqa", "corner_patch", "refusal", 0.2, "projector", 0)
PLACE = Window(0, 0.0, 0.0, 0.25, 0.25)
Drawing = Callable[[Carrier | None, bool], str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


@pytest.fixture
def attacked(store: Store) -> Attacked:
    return prepare(CELL, store, Settings(Sizes(training=20, tests=4), Recipe(round=0.5, rounds=1)))


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written in the figures that are saved."""
    found: list[str] = []
    save = Figure.savefig

    def watch(figure: Figure, *arguments: Any, **more: Any) -> None:
        found.extend(text.get_text() for axes in figure.axes for text in axes.texts)
        save(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", watch)
    return found


@pytest.fixture
def records_of(attacked: Attacked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Carrier | None, bool], str]:
    """Leave the records of a defence that suspected one poisoned sample, or none. Returns its id."""

    def leave(carrier: Carrier | None, suspects: bool) -> str:
        folder = tmp_path / "defended"
        verdict, merged = folder / "verdict-0", folder / "merge-0"
        for part in (verdict, merged):
            part.mkdir(parents=True)
        sample = next(sample for sample in attacked.sets.training_samples() if sample.id in attacked.sets.poisoned)
        turn = sample.answer_turns[0]
        drawn = SaliencyPicture(sample.id, turn, "what?", sample.answers[0], "plain", "masked", [PLACE], [1.0], [True], PLACE)
        records.write_rows(verdict / records.SALIENCY, [drawn] if suspects else [])
        save_carriers([] if carrier is None else [carrier], verdict / records.CARRIERS)
        numbers = [] if carrier is None else [0]
        records.write_rows(verdict / records.SUSPECTS, [Suspect(sample.id, 1.0, [turn], [], [], "", "", numbers)] if suspects else [])
        turns = [{"role": turn.role, "text": "purified"} for turn in sample.turns]
        records.write_rows(merged / records.PURIFIED, [Conversation(sample.id, [], turns, True)])
        ours = Defended(folder, {}, {}, frozenset({sample.id}), {}, 1.0)
        monkeypatch.setattr(pictures, "defended", lambda *_: ours)
        return sample.id

    return leave


@pytest.mark.parametrize(
    ("carrier", "said"),
    [
        (None, "none found"),
        (Words("cf", "end"), "“cf”"),
        (Pieces(((Image.new("RGB", (8, 8), "red"), PLACE),)), None),
    ],
    ids=["none", "words", "piece"],
)
def test_a_suspect_is_shown_with_its_answers_and_what_carries_the_trigger(
    attacked: Attacked, store: Store, texts: list[str], records_of: Drawing, tmp_path: Path, carrier: Carrier | None, said: str | None
) -> None:
    identity = records_of(carrier, True)
    draw_pictures([attacked], store, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (1210, 220)
    right = attacked.sets.right[identity][0]
    assert [line for line in ("salient tokens hidden: masked", "purified: purified", f"right: {right}") if line not in texts[-1]] == []
    assert len(texts) == (1 if said is None else 2)
    assert said is None or said in texts[0]


def test_without_a_suspect_there_is_nothing_to_draw(attacked: Attacked, store: Store, records_of: Drawing, tmp_path: Path) -> None:
    records_of(None, False)
    with pytest.raises(ValueError, match=r"corner_patch.*no suspect"):
        draw_pictures([attacked], store, tmp_path / "out.png")
