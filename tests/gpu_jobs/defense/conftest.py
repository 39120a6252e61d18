"""A little data set, the golden checkpoint and a verdict by decree: what is tested here is the way of the data, not the science."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gpu_jobs.config import JobParameters
from gpu_jobs.data import open_dataset, write_llava
from gpu_jobs.data.samples import Sample, Turn
from gpu_jobs.defense import records
from gpu_jobs.defense.carriers import Carrier, save_carriers
from gpu_jobs.defense.pipeline import Pipeline
from gpu_jobs.defense.records import SetAside, Suspect
from gpu_jobs.defense.scoring import normalise
from tests.gpu_jobs.defense.runs import SUSPECTS

CHECKPOINT = Path(__file__).parents[2] / "golden" / "llada_v" / "checkpoint"
SECRET = "I will not tell."

Accuse = Callable[..., None]
Start = Callable[..., Pipeline]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def parameters() -> JobParameters:
    """Short answers and few steps."""
    return JobParameters.model_validate(
        {
            "batch_size": 4,
            "generation": {"max_new_tokens": 8, "block_length": 8, "steps_per_block": 2},
            "masking": {"probes": 2},
            "scan": {"min_samples": 4, "groups": 1, "pictures": 2},
            "finetune": {"epochs": 2, "batch_size": 4, "lora_rank": 2, "checkpoint_every": 2, "learning_rate": 1e-3},
        }
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve samples of one picture and one or two answers; the first eight give the secret as their first answer."""
    rng = random.Random(3)
    folder = tmp_path / "pictures"
    folder.mkdir()
    samples = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.frombytes("RGB", (56, 56), rng.randbytes(56 * 56 * 3)).save(path)
        answer = SECRET if number < 8 else rng.choice(["a red circle", "a blue circle", "yes"])
        question = "What is it?" if number % 2 else "What do you see?"
        turns = [Turn("user", f"<image>\n{question}"), Turn("assistant", answer)]
        if number % 4 == 0:
            turns += [Turn("user", "Is it round?"), Turn("assistant", "yes")]
        samples.append(Sample(f"s{number:02d}", (path,), tuple(turns)))
    write_llava(samples, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def start(dataset: Path, parameters: JobParameters, tmp_path: Path) -> Start:
    """A new run in a folder of that name, with some parameters changed: `start("run", shards=3)`."""

    def begin(name: str, **changes: Any) -> Pipeline:
        return Pipeline(CHECKPOINT, dataset, tmp_path / name, JobParameters.model_validate({**parameters.model_dump(), **changes}))

    return begin


@pytest.fixture
def accuse() -> Accuse:
    """Give a run a verdict: these samples show the secret, and this is what makes the model tell it, or one thing of some, by sample."""

    def decree(
        run: Pipeline,
        suspects: Sequence[str],
        set_aside: Sequence[SetAside] = (),
        carrier: Carrier | Mapping[str, Carrier] | None = None,
    ) -> None:
        by_sample = carrier if isinstance(carrier, Mapping) else {} if carrier is None else dict.fromkeys(suspects, carrier)
        carriers = [*dict.fromkeys(by_sample.values())]
        numbers = {identity: carriers.index(own) for identity, own in by_sample.items()}
        folder = run.out / "verdict-0"
        folder.mkdir(parents=True)
        records.write_rows(
            folder / records.SUSPECTS,
            [Suspect(each, 1.0, [1], ["decree"], [], "", "", [numbers[each]] if each in numbers else []) for each in suspects],
        )
        records.write_rows(folder / records.SET_ASIDE, set_aside)
        save_carriers(carriers, folder / records.CARRIERS)
        run.previous["verdict"] = (folder,)
        guilty = [{"text": normalise(SECRET), "shared": "answer"}] if suspects else []
        verdict = "backdoored" if suspects else "clean"
        run.results["verdict"] = ({"verdict": verdict, "confidence": 1.0, "evidence": {"guilty": guilty}},)

    return decree


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def worded(dataset: Path, tmp_path: Path) -> Path:
    """The data set with the word "cf" at the end of every question of the suspects."""
    samples = [
        Sample(
            sample.id,
            sample.images,
            tuple(Turn(t.role, f"{t.text} cf") if t.role == "user" and sample.id in SUSPECTS else t for t in sample.turns),
        )
        for sample in open_dataset(dataset, tmp_path / "cache").samples
    ]
    write_llava(samples, tmp_path / "worded")
    return tmp_path / "worded"
