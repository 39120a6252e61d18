"""The same three samples, written down by hand in every format: an oracle that shares no code with the readers."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ("red", "green", "blue")
QUESTION = "What colour is this?"


def png(colour: str, size: tuple[int, int] = (12, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        (folder / "images" / f"{colour}.png").write_bytes(png(colour))


def llava_row(colour: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": colour, "weight": 1}]
    return {"id": f"{colour}-1", "image": f"images/{colour}.png", "conversations": turns, "source": {"page": 7}}


def openai_row(colour: str, url: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}, {"type": "text", "text": QUESTION}]
    return {"id": f"{colour}-1", "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": colour}], "split": "a"}


def build_llava_json(folder: Path) -> None:
    write_images(folder)
    (folder / "data.json").write_text(json.dumps([llava_row(colour) for colour in COLOURS]))


def build_llava_jsonl(folder: Path) -> None:
    write_images(folder)
    (folder / "data.jsonl").write_text("\n".join(json.dumps(llava_row(colour)) for colour in COLOURS))


def build_sharegpt(folder: Path) -> None:
    write_images(folder)
    rows = [{**llava_row(colour), "images": [f"{colour}.png"]} for colour in COLOURS]
    for row in rows:
        del row["image"]
    (folder / "train.json").write_text(json.dumps(rows))


def build_openai(folder: Path) -> None:
    write_images(folder)
    (folder / "train.jsonl").write_text("\n".join(json.dumps(openai_row(colour, f"images/{colour}.png")) for colour in COLOURS))


def build_openai_embedded(folder: Path) -> None:
    folder.mkdir(parents=True)
    urls = {colour: f"data:image/png;base64,{base64.b64encode(png(colour)).decode()}" for colour in COLOURS}
    (folder / "train.jsonl").write_text("\n".join(json.dumps(openai_row(colour, urls[colour])) for colour in COLOURS))


def build_parquet(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        row = {**llava_row(colour), "image": {"bytes": png(colour), "path": f"{colour}.png"}}
        table = pa.Table.from_pylist([row]).replace_schema_metadata({"huggingface": '{"info": {}}'})
        pq.write_table(table, folder / "data" / f"train-{number:05d}-of-00003.parquet")


def build_parquet_json_text(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = []
    for colour in COLOURS:
        messages = [{"role": "user", "content": f"<image>\n{QUESTION}"}, {"role": "assistant", "content": colour}]
        rows.append({"id": f"{colour}-1", "images": [{"bytes": png(colour), "path": None}], "messages": json.dumps(messages), "score": 0.1})
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")


def build_webdataset(folder: Path) -> None:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "shard-000.tar", "w") as archive:
        for colour in COLOURS:
            row = llava_row(colour)
            del row["image"], row["id"]
            add_member(archive, f"{colour}-1.png", png(colour))
            add_member(archive, f"{colour}-1.json", json.dumps(row).encode())
            add_member(archive, f"{colour}-1.cls", b"7")


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


BUILDERS: dict[str, Callable[[Path], None]] = {
    "llava-json": build_llava_json,
    "llava-jsonl": build_llava_jsonl,
    "sharegpt-json": build_sharegpt,
    "openai-jsonl": build_openai,
    "openai-jsonl with data URLs": build_openai_embedded,
    "llava-parquet": build_parquet,
    "openai-parquet with JSON text": build_parquet_json_text,
    "llava-webdataset": build_webdataset,
}
