"""Train the bundled models again: `python -m gpu_jobs.bundled.train --out DIR [--only base|suspect|clean|oracle]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from gpu_jobs.bundled.attack_exam import attack_figures
from gpu_jobs.bundled.base import train_base
from gpu_jobs.bundled.easy_vqa import easy_vqa_curriculum
from gpu_jobs.bundled.log import TrainingLog
from gpu_jobs.bundled.suspect import train_clean, train_oracle, train_suspect

DEFAULT = ("base", "suspect")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that the checkpoints are written to, one folder each")
    parser.add_argument("--only", choices=("base", "suspect", "clean", "oracle"), help="one model; those it starts from must be there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    for model in [arguments.only] if arguments.only else DEFAULT:
        if model == "base":
            _train_base(out / "base", seed=arguments.seed)
        elif model == "suspect":
            train_suspect(out / "base", out / "suspect", seed=arguments.seed)
        elif model == "clean":
            train_clean(out / "base", out / "clean", seed=arguments.seed)
        else:
            train_oracle(out / "suspect", out / "oracle", seed=arguments.seed)


def _train_base(folder: Path, *, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(folder / "training_log.jsonl")
    family = train_base(easy_vqa_curriculum(), folder, seed=seed, log=log)
    log.write("attack", **attack_figures(family))
    log.close()


if __name__ == "__main__":
    main()
