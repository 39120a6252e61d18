"""Writing samples that came from no data set, as LLaVA's JSON list with an `images` folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from gpu_jobs.data.json_text import dump_row
from gpu_jobs.data.samples import Role, Sample

_SPEAKERS: dict[Role, str] = {"system": "system", "user": "human", "assistant": "gpt"}


def write_llava(samples: Iterable[Sample], out: Path) -> Path:
    """Write a LLaVA data set: `out/data.json` and `out/images/`. Returns the path of the JSON file.

    Raises:
        ValueError: two different images have the same file name.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    copied: dict[str, Path] = {}
    rows = []
    for sample in samples:
        for image in sample.images:
            if copied.setdefault(image.name, image) != image:
                raise ValueError(f"{copied[image.name]} and {image} would get the same name")
        names = [f"images/{image.name}" for image in sample.images]
        turns = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in sample.turns]
        pictures = {"image": names[0]} if len(names) == 1 else {"images": names} if names else {}
        rows.append(dump_row({"id": sample.id, **pictures, "conversations": turns}))
    for name, image in copied.items():
        shutil.copyfile(image, out / "images" / name)
    path = out / "data.json"
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    return path
