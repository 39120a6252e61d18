"""The family `llada_v`: LLaDA-V (arXiv:2505.16933) behind the seam that the defence is written against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn

from gpu_jobs.data.samples import Turn
from gpu_jobs.diffusion.masked import Draws, corrupt, draw, masked_cross_entropy
from gpu_jobs.errors import InputError
from gpu_jobs.families.base import AnswerTokens, Family, Prompt, SeenImage, TrainingRow
from gpu_jobs.families.llada_v.chat import IGNORED, IMAGE_ID, Chat, Template
from gpu_jobs.families.llada_v.checkpoint import (
    Checkpoint,
    load_network,
    load_projector,
    open_checkpoint,
    read_carried,
    read_configuration,
    save_checkpoint,
)
from gpu_jobs.families.llada_v.conversation_mask import causal_by_round
from gpu_jobs.families.llada_v.images import choose_grid, cut_views, pixel_values
from gpu_jobs.families.llada_v.network import LladaVNetwork, pad_rows
from gpu_jobs.families.llada_v.span import SpanPlan, plan_span

# Views that go through the tower together; bounds the memory of its activations.
VIEWS_PER_FORWARD = 64


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Conversations ready to be corrupted.

    embeddings: [batch, length, hidden], nothing masked yet. labels: [batch, length] int64, `IGNORED` where not supervised.
    attended: what `LladaVNetwork.hidden_states` takes.
    """

    embeddings: Tensor
    labels: Tensor
    attended: Tensor | None


class LladaV(Family):
    """A loaded LLaDA-V. `template` chooses how prompts are laid out (see `chat`)."""

    name = "llada_v"
    network: LladaVNetwork

    def __init__(self, network: LladaVNetwork, checkpoint: Checkpoint, *, template: Template = "consistent") -> None:
        self.network = network
        self.template: Template = template
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._tokenizer = _read_tokenizer(checkpoint.carried)
        self._chat = Chat(self._tokenizer)
        special = self._chat.special
        vocabulary = self._config.language_model.vocab_size
        if (largest := max(self._tokenizer.get_vocab().values())) >= vocabulary:
            raise InputError(f"tokenizer.json has token ids up to {largest}, but config.json says vocab_size {vocabulary}")
        self.tokens = AnswerTokens(
            mask=special.mask,
            end_of_turn=special.end_of_turn,
            suppressed=(special.eos, special.bos, special.start_header, special.end_header),
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        projector: Path | None = None,
        template: Template = "consistent",
        attention: str = "sdpa",
    ) -> Self:
        """Read a checkpoint folder.

        projector: an adapter checkpoint (folder or safetensors file) whose projector takes the place of the folder's.
        attention: `sdpa`, or `eager` to reproduce the official numbers to the last bits.

        Raises:
            InputError: something is missing, malformed or of another family.
        """
        checkpoint = open_checkpoint(folder, attention=attention)
        family = cls(load_network(checkpoint, device=device, dtype=dtype), checkpoint, template=template)
        if projector is not None:
            load_projector(family.network, projector)
        return family

    @classmethod
    def create(cls, folder: Path, *, seed: int, attention: str = "sdpa") -> Self:
        """A model with random weights from a folder that holds `config.json`, the tower's and `tokenizer.json`, but no weights.

        Raises:
            InputError: a file is missing or malformed.
        """
        raw, config = read_configuration(folder, attention=attention)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = LladaVNetwork(config).eval()
        return cls(network, Checkpoint(config, raw, read_carried(folder), stored={}))

    def save(self, folder: Path) -> None:
        save_checkpoint(folder, self.network, self._checkpoint)

    @property
    def parts(self) -> dict[str, nn.Module]:
        network = self.network
        return {"vision_tower": network.vision_tower, "projector": network.projector, "language_model": network.language_model}

    @property
    def lora_targets(self) -> list[str]:
        return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

    @property
    def hidden_embedding(self) -> Tensor:
        return self.network.embedding.weight[self.tokens.mask]

    # Images

    def see(self, images: Sequence[Image.Image]) -> list[SeenImage]:
        if not images:
            return []
        side = self._config.view
        canvases = [choose_grid(image.size, self._config.grids) for image in images]
        views = [cut_views(image, canvas, side) for image, canvas in zip(images, canvases, strict=True)]
        weight = self.network.embedding.weight
        pixels = torch.cat([pixel_values(each) for each in views]).to(weight.device, weight.dtype)
        features = torch.cat([self.network.encode_views(part) for part in torch.split(pixels, VIEWS_PER_FORWARD)])
        seen = []
        for image, canvas, own in zip(images, canvases, torch.split(features, [len(each) for each in views]), strict=True):
            layout = (*image.size, *canvas)
            seen.append(SeenImage(own, layout, self._plan(layout).regions))
        return seen

    def _plan(self, layout: tuple[int, ...]) -> SpanPlan:
        width, height, canvas_width, canvas_height = layout
        return plan_span((width, height), (canvas_width, canvas_height), self._config.view, self._config.patch, self._config.max_views)

    def spans(self, seen: Sequence[SeenImage]) -> list[Tensor]:
        """What takes the place of each image's placeholder: [vision tokens, hidden], all images projected together."""
        if not seen:
            return []
        projected = self.network.projector(torch.cat([image.features for image in seen]))
        separator = self.network.language_model.image_newline
        parts = torch.split(projected, [len(image.features) for image in seen])
        return [self._plan(image.layout).pack(part, separator) for image, part in zip(seen, parts, strict=True)]

    # Prompts

    def prompt(self, seen: Sequence[SeenImage], turns: Sequence[Turn]) -> Prompt:
        ids = self._chat.prompt(turns, self.template)
        embeddings, vision = self._splice(ids, self.spans(seen))
        regions = tuple((number, region) for number, image in enumerate(seen) for region in image.regions)
        return Prompt(embeddings, vision, regions)

    def hide(self, prompt: Prompt, vision_tokens: Tensor) -> Prompt:
        positions = prompt.vision[vision_tokens.to(prompt.vision.device)]
        hidden = self.hidden_embedding.expand(len(positions), -1)
        return replace(prompt, embeddings=prompt.embeddings.index_copy(0, positions, hidden))

    def _splice(self, ids: Sequence[int], spans: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [length, hidden] with spans in place of `IMAGE_ID`, and the positions [vision tokens] of the spans."""
        places = [place for place, token in enumerate(ids) if token == IMAGE_ID]
        if len(places) != len(spans):
            raise InputError(f"the conversation has {len(places)} <image> placeholders for {len(spans)} images")
        text = self._embed([token for token in ids if token != IMAGE_ID])
        pieces, vision, taken, length = [], [], 0, 0
        for number, (place, span) in enumerate(zip(places, spans, strict=True)):
            pieces += [text[taken : place - number], span]
            length += place - number - taken
            vision.append(torch.arange(length, length + len(span), device=text.device))
            taken, length = place - number, length + len(span)
        embeddings = torch.cat([*pieces, text[taken:]])
        return embeddings, torch.cat(vision) if vision else torch.empty(0, dtype=torch.int64, device=text.device)

    def _embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        embedding = self.network.embedding
        embedded: Tensor = embedding(torch.as_tensor(ids, dtype=torch.int64, device=embedding.weight.device))
        return embedded

    # Answers

    def encode_answer(self, text: str) -> list[int]:
        return self._chat.answer(text)

    def decode_answer(self, ids: Sequence[int]) -> str:
        kept = list(ids)
        if self.tokens.end_of_turn in kept:
            kept = kept[: kept.index(self.tokens.end_of_turn)]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=True)
        return text.strip()

    def answer_logits(
        self, prompts: Sequence[Prompt], answers: Tensor, *, lengths: Sequence[int] | None = None, columns: slice = slice(None)
    ) -> Tensor:
        embedded = self._embed(answers)
        kept = lengths if lengths is not None else [answers.shape[1]] * len(prompts)
        rows = [torch.cat([prompt.embeddings, own[:count]]) for prompt, own, count in zip(prompts, embedded, kept, strict=True)]
        hidden = self.network.hidden_states(*pad_rows(rows))
        starts = torch.tensor([len(prompt.embeddings) for prompt in prompts], device=hidden.device)
        offsets = torch.arange(answers.shape[1], device=hidden.device)[columns]
        # Where a row's answer is shorter than the batch's, the clamp repeats some position; those logits mean nothing.
        positions = (starts[:, None] + offsets).clamp(max=hidden.shape[1] - 1)
        return self.network.logits(hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[2])))

    # Training

    def loss(self, rows: Sequence[TrainingRow], generator: torch.Generator, *, answer_length: int | None = None) -> Tensor:
        batch = self.training_batch(rows, answer_length=answer_length)
        return self.batch_loss(batch, draw(len(rows), batch.labels.shape[1], generator))

    def training_batch(
        self,
        rows: Sequence[TrainingRow],
        *,
        answer_length: int | None = None,
        attend_padding: bool = False,
        conversation_mask: bool = False,
    ) -> TrainingBatch:
        """Rows padded at the end with supervised eos tokens, then, where spans differ in length, with nothing at all.

        answer_length: pad each row with eos until its last answer, end-of-turn included, has this many tokens. None pads
            the texts to the longest of the batch, as the official code does.
        attend_padding: let all positions attend to the empty padding, as the official code does.
        conversation_mask: let no position attend to later rounds of its conversation. The official code can train so, its
            published recipes do not.
        """
        spans = iter(self.spans([image for row in rows for image in row.seen]))
        encoded = [self._chat.training_row(row.turns) for row in rows]
        longest = max(len(ids) for ids, _ in encoded)
        embeddings, labels = [], []
        for row, (ids, own_labels) in zip(rows, encoded, strict=True):
            if answer_length is None:
                padding = longest - len(ids)
            elif row.turns[-1].role == "assistant":
                padding = max(answer_length - len(self.encode_answer(row.turns[-1].text)), 0)
            else:  # padding belongs to an answer
                padding = 0
            filled = [self._chat.special.eos] * padding
            embedded, vision = self._splice([*ids, *filled], [next(spans) for _ in row.seen])
            if row.hidden is not None:
                embedded = self.hide(Prompt(embedded, vision, ()), row.hidden).embeddings
            embeddings.append(embedded)
            spliced = torch.full((len(embedded),), IGNORED, device=embedded.device)
            is_text = torch.ones_like(spliced, dtype=torch.bool)
            is_text[vision] = False
            text_labels = [label for label, token in zip([*own_labels, *filled], [*ids, *filled], strict=True) if token != IMAGE_ID]
            spliced[is_text] = torch.tensor(text_labels, device=embedded.device)
            labels.append(spliced)
        padded, attended = pad_rows(embeddings)
        padded_labels = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        if attend_padding:
            attended = None
        if conversation_mask:
            causal = causal_by_round(padded_labels, self._chat.special.start_header)
            attended = causal if attended is None else causal & attended[:, None, :]
        return TrainingBatch(padded, padded_labels, attended)

    def batch_loss(self, batch: TrainingBatch, draws: Draws) -> Tensor:
        """LLaDA's loss of a batch under given draws, a scalar."""
        supervised = batch.labels != IGNORED
        masked, probability = corrupt(supervised, draws)
        noisy = torch.where(masked[..., None], self.hidden_embedding, batch.embeddings)
        logits = self.network.logits(self.network.hidden_states(noisy, batch.attended)[masked])
        return masked_cross_entropy(logits, batch.labels, masked, probability, supervised)


def _read_tokenizer(carried: Mapping[str, bytes]) -> Tokenizer:
    if "tokenizer.json" not in carried:
        raise InputError("the checkpoint has no tokenizer.json")
    try:
        return Tokenizer.from_buffer(carried["tokenizer.json"])
    except Exception as error:  # noqa: BLE001 - the library raises bare Exceptions
        raise InputError(f"tokenizer.json cannot be read: {error}") from None
