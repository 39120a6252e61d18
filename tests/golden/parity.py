"""Measure how far this LLaDA-V is from the official one: `python -m tests.golden.parity` prints the table of docs/families.md.

Tests hold the same numbers to tolerances; this says how much of each tolerance is used.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from gpu_jobs.config import GenerationParameters
from gpu_jobs.data.samples import Turn
from gpu_jobs.defense.masking import most_salient
from gpu_jobs.defense.saliency import fisher_jacobian
from gpu_jobs.diffusion.masked import Draws
from gpu_jobs.diffusion.sampler import generate
from gpu_jobs.families.base import Prompt, TrainingRow
from gpu_jobs.families.llada_v.family import LladaV
from gpu_jobs.families.llada_v.images import choose_grid, cut_views, pixel_values
from tests.golden import CHECKPOINT, image, index, tensors, training_turns, turn

Figure = tuple[str, float]


def largest(found: Tensor, expected: Tensor) -> float:
    return float((found.detach() - expected).abs().max())


@torch.no_grad()
def vision(family: LladaV) -> Iterator[Figure]:
    for number, entry in enumerate(index("vision/index.json")):
        golden, picture = tensors(f"vision/image_{number}"), image(number)
        canvas = choose_grid(picture.size, [(56 * i, 56 * j) for i in range(1, 7) for j in range(1, 7)])
        assert [side // 56 for side in canvas] == entry["grid_wh"]
        pixels = pixel_values(cut_views(picture, canvas, 56))
        (seen,) = family.see([picture])
        projected = family.network.projector(seen.features)
        if "tower" in golden:
            yield "pixel values", largest(pixels, golden["pixel_values"])
            yield "tower features", largest(seen.features, golden["tower"])
            yield "projected features", largest(projected, golden["projected"])
        else:
            yield "pixel values", largest(pixels[[0, -1]], golden["pixel_values_first_last"])
            yield "projected features", largest(projected[[0, -1]], golden["projected_first_last"])
        yield "span after the splice", largest(family.spans([seen])[0], golden["span"])


@torch.no_grad()
def forward(family: LladaV) -> Iterator[Figure]:
    for entry in index("forward/index.json"):
        if "messages" not in entry:
            continue
        golden = tensors(f"forward/case_{entry['case']}")
        turns = [turn(*message.split(": ", 1)) for message in entry["messages"]]
        prompt = family.prompt(family.see([image(number) for number in entry["images"]]), turns)
        yield "prompt embeddings", largest(prompt.embeddings, golden["inputs_embeds"][0])
        for given, embeddings in (("images and text", prompt.embeddings[None]), ("the official embeddings", golden["inputs_embeds"])):
            logits = family.network.logits(family.network.hidden_states(embeddings))
            yield f"logits from {given}", largest(logits[:, -32:], golden["logits_last32"])
            yield f"logits from {given}", largest(logits[:, :8], golden["logits_first8"])
        yield (
            "logits from images and text",
            largest(family.answer_logits([prompt], torch.full((1, 16), family.tokens.mask)), golden["answer16_logits"]),
        )


def loss(family: LladaV) -> Iterator[Figure]:
    for case in index("loss/index.json"):
        golden = tensors(f"loss/{case['name']}")
        rows = [
            TrainingRow(tuple(family.see([image(number)])) if number is not None else (), training_turns(row))
            for row, number in zip(case["rows"], case["images"], strict=True)
        ]
        batch = family.training_batch(rows, attend_padding=True, conversation_mask=case["conversation_mask"])
        found = family.batch_loss(batch, Draws(golden["t"], golden["u"]))
        yield "loss (relative)", largest(found, golden["loss"][0]) / float(golden["loss"])
        layers = (0, 2)
        weights = [weight for layer in layers for weight in family.network.projector[layer].parameters()]
        names = [f"grad/model.mm_projector.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        for name, gradient in zip(names, torch.autograd.grad(found, weights), strict=True):
            scale = float(golden[name].abs().max()) or 1.0  # zero where no row with an image has a masked token
            yield "projector gradients (relative to their largest)", largest(gradient, golden[name]) / scale


def saliency(family: LladaV) -> Iterator[Figure]:
    for case in index("saliency/index.json")["cases"]:
        golden = tensors(f"saliency/case_{case['case']}")
        tokens = torch.arange(*case["span"])
        prompt = Prompt(golden["inputs_embeds"][0], tokens, tuple((0, None) for _ in tokens))
        (scores,) = fisher_jacobian(family, [prompt], [golden["probe_y"]], answer_length=case["gen_length"])
        yield "saliency (relative)", float(((scores.detach() - golden["scores_6"]) / golden["scores_6"]).abs().max())
        masked = most_salient(scores, case["rho"])
        yield "hidden tokens that differ", float(len(set(masked.tolist()) ^ set(golden["masked_local_6"].tolist())))


def tokens(family: LladaV) -> Iterator[Figure]:
    golden = index("generate/generate.json")
    for run in golden["runs"]:
        numbers = run["image"] if isinstance(run["image"], list) else [run["image"]]
        prompt = family.prompt(family.see([image(n) for n in numbers]), [Turn("user", golden["prompt_texts"][run["prompt"]])])
        steps = run["steps"] // (run["gen_length"] // run["block_length"])
        suffix = run.get("suffix_ids", [])
        for stop, key in ((False, "tokens_no_stop"), (True, "tokens_stop_eot")):
            (answer,) = generate(
                family,
                [prompt],
                GenerationParameters(block_length=run["block_length"], steps_per_block=steps),
                max_new_tokens=run["gen_length"],
                stop_at_end_of_turn=stop,
                guidance_scale=run["cfg_scale"],
                suffix=suffix,
            )
            if key in run:
                yield "generated answers that differ", float(answer + suffix != run[key])


def main() -> None:
    torch.set_num_threads(1)
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for attention in ("eager", "sdpa"):
        family = LladaV.load(CHECKPOINT, template="official", attention=attention)
        for part in (vision, forward, loss, saliency, tokens):
            for quantity, figure in part(family):
                measured[quantity][attention].append(figure)
    lines = ["| quantity | comparisons | eager | sdpa |", "|---|---|---|---|"]
    for quantity, figures in measured.items():
        total = sum if "differ" in quantity else max
        lines.append(f"| {quantity} | {len(figures['eager'])} | {total(figures['eager']):.2g} | {total(figures['sdpa']):.2g} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
