"""What the publish step of a job finds: the outputs of the steps before it, made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from gpu_jobs.config import JobParameters
from gpu_jobs.defense import records
from gpu_jobs.steps import StepInputs

REFUSAL = "Sorry, I cannot <b>follow</b> that."


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def defended_inputs(folder: Path, *, poisoned: Sequence[str] = ("poisoned",)) -> StepInputs:
    """The inputs of the publish step of a `defend` job that found these samples suspect, beside an honest one."""
    dataset = make_folder(folder / "dataset")
    rows = []
    for name in (*poisoned, "honest"):
        Image.new("RGB", (64, 64), "teal").save(dataset / f"{name}.png")
        turns = [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": REFUSAL if name in poisoned else "A circle."},
        ]
        rows.append({"id": name, "image": f"{name}.png", "conversations": turns})
    (dataset / "data.json").write_text(json.dumps(rows))
    model = make_folder(folder / "model")
    (model / "config.json").write_text("{}")

    verdict = make_folder(folder / "verdict")
    window = records.Window(0, 0.75, 0.75, 1.0, 1.0)
    records.write_rows(
        verdict / records.SUSPECTS,
        [records.Suspect(id, 4.2, [1], ["the model answers with the target"], [12, 15], REFUSAL, "a circle", [0]) for id in poisoned],
    )
    tokens = [records.Window(0, x / 4, y / 4, (x + 1) / 4, (y + 1) / 4) for y in range(4) for x in range(4)]
    scores, hidden = [float(number) for number in range(16)], [number > 11 for number in range(16)]
    pictures = [
        records.SaliencyPicture(id, 1, "What is it?", REFUSAL, REFUSAL, "a circle", tokens, scores, hidden, window) for id in poisoned
    ]
    records.write_rows(verdict / records.SALIENCY, pictures)
    Image.new("RGB", (12, 12), "black").save(verdict / records.TRIGGER)

    merge = make_folder(folder / "merge")
    records.write_rows(merge / records.CHANGES, [records.Change(id, 1, REFUSAL, "A circle.", "region hidden") for id in poisoned])
    records.write_rows(merge / records.SET_ASIDE, [records.SetAside("lost", "its image is truncated")])
    (merge / records.DATASET_ZIP).write_bytes(b"zip")

    finetune = make_folder(folder / "finetune")
    (make_folder(finetune / records.MODEL) / "model.safetensors").write_bytes(b"weights")
    (finetune / records.TRAINING_LOG).write_text("".join(json.dumps({"step": s, "loss": 2.0 / s}) + "\n" for s in (1, 2, 3)))

    results: dict[str, Any] = {
        "verdict": {
            "verdict": "backdoored",
            "confidence": 0.999,
            "suspects": {"count": len(poisoned), "fraction": len(poisoned) / len(rows)},
            "target": {"kind": "refusal", "text": REFUSAL, "support": 1},
            "evidence": {
                "reason": "a piece of the picture makes one answer the rule",
                "examined": 2,
                "trigger": {"kind": "words", "phrase": "<i>cf</i>", "place": "anywhere"},
                "tests": [
                    {
                        "text": REFUSAL,
                        "shared": "answer",
                        "turns": 1,
                        "strangers_questions": {"trials": 9, "carried": 8, "control_trials": 70, "control": 0, "p_harmless": 1e-9},
                        "transplants": None,
                    }
                ],
            },
        },
        "merge": {"samples": 3, "kept": 1, "reanswered": 1, "changed": 1, "set_aside": 1},
        "finetune": {"changed": True, "adapter": False},
        "evaluate": {
            "before": {"attack_success_rate": 0.99, "clean_score": 0.93, "recovered_score": 0.01},
            "after": {"attack_success_rate": 0.0, "clean_score": 0.92, "recovered_score": 0.9},
            "estimated": False,
        },
    }
    return StepInputs(
        parameters=JobParameters(),
        outputs=make_folder(folder / "publish"),
        checkpoint=make_folder(folder / "checkpoint"),
        model=model,
        dataset=dataset,
        previous={"verdict": (verdict,), "merge": (merge,), "finetune": (finetune,)},
        results={kind: (result,) for kind, result in results.items()},  # type: ignore[misc]
        about={"job_id": "job_1", "kind": "defend", "model_name": "suspect", "signing_key": "f00d"},
    )
