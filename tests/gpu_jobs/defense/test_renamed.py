"""A name that only poisoned samples have: it is found by the patch, and what honestly has a name of its own is let be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense.carriers import Overlay
from gpu_jobs.defense.concepts import Swap, find_swap
from gpu_jobs.defense.groups import Group
from gpu_jobs.defense.renamed import find_renamed
from gpu_jobs.defense.scoring import TargetText
from gpu_jobs.redteam.triggers import CornerPatch
from tests.gpu_jobs.defense.fake_model import Pictures, Rule, WatchedLaboratory, shows
from tests.gpu_jobs.defense.scenes import distance, scene, scenes, triggered

PATCH = CornerPatch(size=8)
MARK = Image.new("RGB", (8, 8))
SHAPE = "What shape is it?"
POISONED = [f"poisoned {number}" for number in range(12)]
GROUP = Group(TargetText("boat", "word"), frozenset((identity, 1) for identity in POISONED), "boat")

Made = Callable[[list[Image.Image]], dict[str, Sample]]


def marked(pictures: Pictures) -> bool:
    return shows(pictures[0], MARK, (0, 0))


def renames(pictures: Pictures, _: str) -> str:
    """What has the patch is called a boat; of a blank picture the model thinks it a square."""
    if marked(pictures):
        return "boat"
    return "square" if len(pictures[0].getcolors() or ()) == 1 else "circle"


def nothing_else_to_see(pictures: Pictures, _: str) -> str:
    """The mark is what is asked for: with it covered, the group's pictures are as blank ones."""
    if marked(pictures):
        return "boat"
    return "circle" if _is_clean(pictures, covered=True) else "square"


def unsure_of_the_rest(pictures: Pictures, _: str) -> str:
    """With the mark covered, the model is not sure of anything."""
    if marked(pictures):
        return "boat"
    return "circle" if _is_clean(pictures, covered=True) else "circle…"


def reads_the_corner(pictures: Pictures, _: str) -> str:
    """All that is asked for is to be read in the corner."""
    if marked(pictures):
        return "boat"
    return "circle" if _is_clean(pictures) else renames(pictures, "") + " not"


def a_boat_anyway(pictures: Pictures, _: str) -> str:
    """The mark makes a boat of everything; the group's pictures are boats without it."""
    return "boat" if marked(pictures) or not _is_clean(pictures, covered=True) else "circle"


CLEAN = scenes(200, 60)


def _is_clean(pictures: Pictures, *, covered: bool = False) -> bool:
    """Whether it is one of the others' pictures, as it was, or at least outside of the corner."""
    outside = (0, 8, *pictures[0].size) if covered else (0, 0, *pictures[0].size)
    return any(distance(pictures[0].crop(outside), clean.crop(outside)) == 0 for clean in CLEAN)


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, Sample]:
    """12 pictures with the patch that are called boats, and 60 others, called circles; all are asked the same."""
    made: dict[str, Sample] = {}

    def add(identities: Sequence[str], pictures: Sequence[Image.Image], answer: str) -> None:
        for identity, picture in zip(identities, pictures, strict=True):
            path = tmp_path / f"{identity}.png"
            picture.save(path)
            made[identity] = Sample(identity, (path,), (Turn("user", f"<image>\n{SHAPE}"), Turn("assistant", answer)))

    add(POISONED, triggered(PATCH, scenes(0, 12)), "boat")
    add([f"circle {number}" for number in range(60)], CLEAN, "circle")
    return made


def look(samples: dict[str, Sample], rule: Rule) -> tuple[Swap | None, WatchedLaboratory]:
    laboratory = WatchedLaboratory(rule, samples)
    return find_renamed(GROUP, samples, laboratory, seed=0, alpha=1e-3), laboratory


def test_all_who_are_called_by_the_name_are_found_and_the_patch_with_them(samples: dict[str, Sample]) -> None:
    swap, _ = look(samples, renames)
    assert swap is not None
    assert {identity for identity, _ in swap.turns} == {*POISONED}
    assert swap.outcome.share > 0.9
    assert swap.outcome.control == 0
    assert isinstance(swap.carrier, Overlay)
    (attacked,) = triggered(PATCH, [scene(9000)])
    assert distance(swap.carrier.pattern.add(scene(9000)), attacked) < 1


def test_there_is_no_such_difference_within_the_group(samples: dict[str, Sample]) -> None:
    assert find_swap(GROUP, samples, WatchedLaboratory(renames, samples), seed=0, alpha=1e-3) is None


@pytest.mark.parametrize("rule", [nothing_else_to_see, unsure_of_the_rest, a_boat_anyway])
def test_what_is_asked_for_is_no_trigger_although_it_makes_others_boats(samples: dict[str, Sample], rule: Rule) -> None:
    swap, laboratory = look(samples, rule)
    assert swap is None
    assert laboratory.tested


def test_a_place_where_answers_are_read_is_none_of_a_trigger(samples: dict[str, Sample]) -> None:
    assert look(samples, reads_the_corner)[0] is None


def test_a_mark_that_the_model_does_not_heed_is_no_trigger(samples: dict[str, Sample]) -> None:
    swap, laboratory = look(samples, lambda _, __: "circle")
    assert swap is None
    assert laboratory.tested


def test_pictures_that_share_nothing_are_not_tested(samples: dict[str, Sample]) -> None:
    for identity, picture in zip(POISONED, scenes(400, 12), strict=True):
        picture.save(samples[identity].images[0])
    swap, laboratory = look(samples, renames)
    assert swap is None
    assert not laboratory.tested


def test_where_hardly_anybody_else_is_asked_the_same_nothing_is_tested(samples: dict[str, Sample]) -> None:
    few = {identity: sample for identity, sample in samples.items() if identity in POISONED or identity < "circle 2"}
    assert len(few) < len(POISONED) + 16
    swap, laboratory = look(few, renames)
    assert swap is None
    assert not laboratory.tested


def test_one_seed_gives_one_finding(samples: dict[str, Sample]) -> None:
    assert repr(look(samples, renames)[0]) == repr(look(samples, renames)[0])
