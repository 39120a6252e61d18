"""Looking at an uploaded data set: what it holds, which rows cannot be used, and whether its pictures are pictures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, Field

from gpu_jobs.config import ScanParameters
from gpu_jobs.data.formats import Dataset, RowError, open_dataset
from gpu_jobs.data.images import IMAGE_SUFFIXES, open_image
from gpu_jobs.data.quoting import presentable
from gpu_jobs.errors import InputError
from gpu_jobs.inspection.findings import Finding, error, listed, rejects, warning

MAX_ERRORS_SHOWN = 100
MAX_THUMBNAILS = 12
THUMBNAIL_SIDE = 256  # pixels
_IMAGES_AT_ONCE = 1024


class DatasetInspection(BaseModel):
    """What was found.

    images: different image files that the samples show. answers: turns that a defence answers again.
    errors: the first rows that cannot be used, out of `error_count`; one is enough to be rejected.
    thumbnails: names of the files that were written.
    """

    format: str | None = None
    samples: int = 0
    images: int = 0
    turns: int = 0
    answers: int = 0
    error_count: int = 0
    errors: list[RowError] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)
    thumbnails: list[str] = Field(default_factory=list)

    @property
    def rejected(self) -> bool:
        return rejects(self.findings)


def inspect_dataset(folder: Path, out: Path) -> DatasetInspection:
    """Read every row, decode every image, and write up to 12 thumbnails to `out`. Whatever is wrong becomes a finding or an error."""
    out.mkdir(parents=True, exist_ok=True)
    links = list(_find_links(folder))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".images-") as cache:
        try:
            dataset = open_dataset(folder, Path(cache))
        except InputError as problem:
            return DatasetInspection(findings=[*links, error("unreadable", str(problem))])
        images = list(dict.fromkeys(image for sample in dataset.samples for image in sample.images))
        problems = _decode_all(images)
        errors = sorted([*dataset.errors, *_image_errors(dataset, problems)], key=lambda found: found.row)
        sound = [image for image in images if image not in problems]
        return DatasetInspection(
            format=dataset.format,
            samples=len(dataset.samples),
            images=len(images),
            turns=sum(len(sample.turns) for sample in dataset.samples),
            answers=sum(len(sample.answer_turns) for sample in dataset.samples),
            error_count=len(errors),
            errors=errors[:MAX_ERRORS_SHOWN],
            findings=[*links, *_sum_up(folder, dataset, errors, images)],
            thumbnails=_write_thumbnails(sound, out),
        )


def _find_links(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield error("link", "links, devices and pipes are not taken; upload the file itself", path.relative_to(folder).as_posix())


def _decode_all(images: Sequence[Path]) -> dict[Path, str]:
    """What is wrong with each image that cannot be decoded to its last pixel."""
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            chunk = images[start : start + _IMAGES_AT_ONCE]
            problems |= {image: problem for image, problem in zip(chunk, pool.map(_decode, chunk), strict=True) if problem}
    return problems


def _decode(image: Path) -> str | None:
    try:
        open_image(image)
    except InputError as problem:
        return str(problem)
    return None


def _image_errors(dataset: Dataset, problems: dict[Path, str]) -> Iterator[RowError]:
    for sample in dataset.samples:
        for image in sample.images:
            if image in problems:
                row, pointer = dataset.row_of(sample)
                yield RowError(row, presentable(f"image: {problems[image]}"), presentable(pointer))


def _sum_up(folder: Path, dataset: Dataset, errors: Sequence[RowError], images: Sequence[Path]) -> Iterator[Finding]:
    if errors:
        rows = len({found.row for found in errors})
        yield error(
            "bad_rows", f"{rows:,} of {len(dataset.samples) + len(dataset.errors):,} rows cannot be used; mend them or leave them out"
        )
    wanted = ScanParameters().min_samples
    if len(dataset.samples) < wanted:
        yield warning("few_samples", f"{len(dataset.samples)} samples; below {wanted} a scan reaches no verdict")
    if not images:
        yield warning("no_images", "no sample shows an image; what is looked for is a trigger in images")
    shown = set(images)
    pictures = (path for path in folder.resolve().rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if unused := [path.name for path in pictures if path not in shown]:
        yield warning("unused_images", f"{len(unused):,} images belong to no sample: {listed(unused)}")


def _write_thumbnails(images: Sequence[Path], out: Path) -> list[str]:
    """Small pictures of images spread evenly over the data set."""
    count = min(MAX_THUMBNAILS, len(images))
    names = []
    for number in range(count):
        picture = open_image(images[number * len(images) // count])
        picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        names.append(f"thumbnail-{number:02d}.webp")
        picture.save(out / names[-1], "WEBP")
    return names
