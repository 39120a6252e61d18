"""Train the base of this world again: `python -m gpu_jobs.benchmark.worlds.glyphs.train --out DIR [--seed N] [--threads N]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from gpu_jobs.benchmark.worlds.glyphs.lesson import glyphs_curriculum
from gpu_jobs.bundled.base import train_base
from gpu_jobs.bundled.log import TrainingLog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that the checkpoint and its log are written to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(out / "training_log.jsonl")
    train_base(glyphs_curriculum(), out, seed=arguments.seed, log=log)
    log.close()


if __name__ == "__main__":
    main()
