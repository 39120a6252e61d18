"""What one row says, in the words of LLaVA, ShareGPT or OpenAI, and putting new texts back where the old ones stood.

The three differ in the names of things only, and real data mixes them, so a row is read by what it holds:

    LLaVA     {"id", "image": "a.png", "conversations": [{"from": "human" | "gpt" | "system", "value": …}]}
    ShareGPT  the same with "images": […], an optional "system", and also "messages" for "conversations"
    OpenAI    {"messages": [{"role": "user" | "assistant" | "system", "content": text or [parts]}]}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_jobs.data.samples import Role, Turn

PLACEHOLDER = "<image>"
CONVERSATION_KEYS = ("conversations", "messages")

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image_url", "image", "input_image")
_UNSUPPORTED = ("video", "videos", "audio", "audios")


class RowProblem(Exception):
    """This row cannot be used. `pointer` is the JSON pointer within the row to what is wrong."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


@dataclass(frozen=True, slots=True)
class Conversation:
    """A row as it was understood. `places[i]` is the path within the row to the text of `turns[i]`."""

    id: str | None
    images: list[Any]
    turns: list[Turn]
    places: list[tuple[str | int, ...]]


@dataclass(slots=True)
class _Reading:
    turns: list[Turn] = field(default_factory=list)
    places: list[tuple[str | int, ...]] = field(default_factory=list)
    part_images: list[Any] = field(default_factory=list)  # one for each image part, None where the part names no image


def dialect(row: Mapping[str, Any]) -> str:
    """`llava`, `sharegpt` or `openai`: whose words a row uses."""
    key = _conversation_key(row)
    turns = row.get(key)
    if isinstance(turns, Sequence) and turns and isinstance(turns[0], Mapping) and "role" in turns[0]:
        return "openai"
    return "sharegpt" if key == "messages" or ("images" in row and "image" not in row) else "llava"


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """The id, the images as the row refers to them, and the turns.

    Raises:
        RowProblem: the row is no conversation, or not one that can be learnt from.
    """
    for key in _UNSUPPORTED:
        if row.get(key):
            raise RowProblem(f"`{key}` is not supported: samples hold images and text", f"/{key}")
    key = _conversation_key(row)
    messages = row.get(key)
    if messages is None:
        raise RowProblem("neither `conversations` nor `messages`: the row holds no conversation")
    if not isinstance(messages, list) or not messages:
        raise RowProblem(f"`{key}` must be a list of at least one turn", f"/{key}")

    reading = _Reading()
    if isinstance(row.get("system"), str) and row["system"].strip():
        _add_turn(reading, "system", row["system"], ("system",))
    for index, message in enumerate(messages):
        _read_message(reading, message, (key, index))
    conversation = Conversation(_read_id(row), _read_images(row, reading.part_images), reading.turns, reading.places)
    _check_answers(conversation, f"/{key}")
    return conversation


def place_images(turns: Sequence[Turn], images: int) -> list[Turn]:
    """The turns with one `<image>` for each image. As LLaVA does, a single image that no turn mentions goes to the front.

    Raises:
        RowProblem: the numbers of images and placeholders differ.
    """
    for turn in turns:
        if turn.role != "user" and PLACEHOLDER in turn.text:
            raise RowProblem(f"`{PLACEHOLDER}` stands in the turn of the {turn.role}; only the user shows images")
    placeholders = sum(turn.text.count(PLACEHOLDER) for turn in turns)
    if placeholders == images:
        return list(turns)
    if images == 1 and placeholders == 0:
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        return [*turns[:first], Turn("user", f"{PLACEHOLDER}\n{turns[first].text}"), *turns[first + 1 :]]
    raise RowProblem(f"{images} images but {placeholders} `{PLACEHOLDER}` in the text; write one for each image")


def write_texts(row: Mapping[str, Any], conversation: Conversation, texts: Mapping[int, str]) -> dict[str, Any]:
    """A copy of `row` in which `texts[i]` stands for the text of turn i; all else is as it was."""
    edited = copy.deepcopy(dict(row))
    for index, text in texts.items():
        *path, last = conversation.places[index]
        holder: Any = edited
        for step in path:
            holder = holder[step]
        holder[last] = _as_parts(holder[last], text) if isinstance(holder[last], list) else text
    return edited


def _conversation_key(row: Mapping[str, Any]) -> str:
    return next((key for key in CONVERSATION_KEYS if row.get(key) is not None), "conversations")


def _read_id(row: Mapping[str, Any]) -> str | None:
    value = row.get("id")
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise RowProblem(f"the id must be a text or a whole number, not {type(value).__name__}", "/id")
    text = str(value)
    if len(text) > 512 or not text.isprintable():
        raise RowProblem("the id must have at most 512 characters, all of them printable", "/id")
    return text


def _read_images(row: Mapping[str, Any], part_images: list[Any]) -> list[Any]:
    own: list[Any] = []
    for key in ("image", "images"):
        value = row.get(key)
        if value is None or value in ("", []):
            continue
        if own:
            raise RowProblem("both `image` and `images` are given; keep one of them", f"/{key}")
        own = value if isinstance(value, list) else [value]
    named = [image for image in part_images if image is not None]
    if not named:
        return own
    if len(named) != len(part_images):
        raise RowProblem("some image parts name an image and others do not")
    return named


def _read_message(reading: _Reading, message: object, place: tuple[str | int, ...]) -> None:
    pointer = "".join(f"/{step}" for step in place)
    if not isinstance(message, Mapping):
        raise RowProblem(f"a turn must be an object, not {type(message).__name__}", pointer)
    who, what = ("role", "content") if message.get("role") is not None else ("from", "value")
    speaker = message.get(who)
    role = _ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        raise RowProblem(f"unknown role {speaker!r:.100}; known are {', '.join(sorted(_ROLES))}", f"{pointer}/{who}")
    if message.get("tool_calls"):
        raise RowProblem("tool calls are not supported", f"{pointer}/tool_calls")
    _add_turn(reading, role, message.get(what), (*place, what))


def _add_turn(reading: _Reading, role: Role, content: object, place: tuple[str | int, ...]) -> None:
    pointer = "".join(f"/{step}" for step in place)
    if isinstance(content, list):
        text = "\n".join(_read_part(reading, part, f"{pointer}/{i}") for i, part in enumerate(content))
    elif isinstance(content, str):
        text = content
    else:
        raise RowProblem(f"the text of a turn must be a text or a list of parts, not {type(content).__name__}", pointer)
    if role != "system" and not text.strip():
        raise RowProblem("the answer is empty" if role == "assistant" else "the user's turn is empty", pointer)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowProblem("the text is not valid Unicode (a lone surrogate)", pointer) from None
    reading.turns.append(Turn(role, text))
    reading.places.append(place)


def _read_part(reading: _Reading, part: object, pointer: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind in _TEXT_PARTS:
        if not isinstance(part.get("text"), str):
            raise RowProblem("a text part needs `text`", f"{pointer}/text")
        return str(part["text"])
    if isinstance(part, Mapping) and kind in _IMAGE_PARTS:
        reading.part_images.append(next((part[key] for key in ("image_url", "image") if part.get(key) is not None), None))
        return PLACEHOLDER
    raise RowProblem(f"unknown kind of part {kind!r:.100}; known are text and image_url", pointer)


def _check_answers(conversation: Conversation, pointer: str) -> None:
    roles = [turn.role for turn in conversation.turns]
    if "user" not in roles:
        raise RowProblem("no turn of a user", pointer)
    if "assistant" not in roles[roles.index("user") :]:
        raise RowProblem("no answer follows the user's first turn", pointer)


def _as_parts(old: list[Any], text: str) -> list[Any]:
    """`text` as a list of parts, with the old image parts where it says `<image>`."""
    images = iter([part for part in old if part.get("type") in _IMAGE_PARTS])
    template = next((part for part in old if part.get("type") in _TEXT_PARTS), {"type": "text"})
    parts: list[Any] = []
    for number, piece in enumerate(text.split(PLACEHOLDER)):
        if number:
            parts.append(next(images))
        if piece.strip("\n"):
            parts.append({**template, "text": piece.strip("\n")})
    return parts
