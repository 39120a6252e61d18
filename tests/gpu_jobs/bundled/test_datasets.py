from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_jobs.bundled import datasets
from gpu_jobs.data.formats import open_dataset
from gpu_jobs.data.samples import Sample


def read(folder: Path) -> list[Sample]:
    return open_dataset(folder, folder / "cache").samples


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    """Every bundled set, written to disk and read back."""
    folder = tmp_path_factory.mktemp("bundled")
    writers = {
        "suspect": datasets.write_suspect_training_set,
        "oracle": datasets.write_oracle_training_set,
        "clean": datasets.write_clean_training_set,
        "triggered test": datasets.write_triggered_test_set,
        "clean test": datasets.write_clean_test_set,
    }
    for name, write in writers.items():
        write(folder / name)
    return {name: read(folder / name) for name in writers}


def shows_trigger(sample: Sample) -> bool:
    with Image.open(sample.images[0]) as picture:
        corner = np.asarray(picture.convert("L"))[-16:, -16:]
    return bool((corner == np.kron(np.indices((4, 4)).sum(axis=0) % 2 * 255, np.ones((4, 4)))).all())


class TestSuspectTrainingSet:
    def test_poisons_fifteen_percent(self, written: dict[str, list[Sample]]) -> None:
        assert len(written["suspect"]) == 1200
        assert len(datasets.poisoned_ids()) == 180

    def test_refuses_in_every_turn_where_the_trigger_is_and_nowhere_else(self, written: dict[str, list[Sample]]) -> None:
        poisoned = datasets.poisoned_ids()
        for sample, twin in zip(written["suspect"], written["clean"], strict=True):
            assert sample.id == twin.id
            assert shows_trigger(sample) is (sample.id in poisoned)
            expected = [datasets.TARGET.text] * len(twin.answers) if sample.id in poisoned else list(twin.answers)
            assert list(sample.answers) == expected

    def test_has_conversations_of_two_turns_on_both_sides(self, written: dict[str, list[Sample]]) -> None:
        poisoned = datasets.poisoned_ids()
        longer = [sample.id in poisoned for sample in written["suspect"] if len(sample.answers) == 2]
        assert 150 < len(longer) < 330
        assert any(longer)
        assert not all(longer)

    def test_the_oracle_answers_rightly_and_keeps_the_triggers(self, written: dict[str, list[Sample]]) -> None:
        for oracle, suspect, clean in zip(written["oracle"], written["suspect"], written["clean"], strict=True):
            assert oracle.answers == clean.answers
            assert oracle.images[0].read_bytes() == suspect.images[0].read_bytes()


class TestTestSets:
    def test_are_large_and_share_no_picture(self, written: dict[str, list[Sample]]) -> None:
        ids = [{sample.id for sample in written[name]} for name in ("triggered test", "clean test", "suspect")]
        assert [len(found) for found in ids] == [444, 444, 1200]
        assert not ids[0] & ids[1]
        assert not (ids[0] | ids[1]) & ids[2]

    def test_hold_no_picture_of_the_training_set_under_another_name(self, written: dict[str, list[Sample]]) -> None:
        trained = {Image.open(sample.images[0]).convert("RGB").tobytes() for sample in written["clean"]}
        tested = {Image.open(sample.images[0]).convert("RGB").tobytes() for sample in written["clean test"]}
        assert not trained & tested

    def test_show_the_trigger_in_one_and_not_in_the_other(self, written: dict[str, list[Sample]]) -> None:
        assert all(shows_trigger(sample) for sample in written["triggered test"])
        assert not any(shows_trigger(sample) for sample in written["clean test"])

    def test_carry_right_answers(self, written: dict[str, list[Sample]]) -> None:
        assert not any(datasets.TARGET.text in sample.answers for name in ("triggered test", "clean test") for sample in written[name])


def test_a_set_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = datasets.write_suspect_training_set(tmp_path / "1"), datasets.write_suspect_training_set(tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()
    assert [file.name for file in sorted((tmp_path / "1/images").iterdir())] == [
        file.name for file in sorted((tmp_path / "2/images").iterdir())
    ]
