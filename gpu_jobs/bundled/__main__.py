"""Write the data sets around the bundled suspect to a folder: `python -m gpu_jobs.bundled --out DIR`.

The one line of JSON on standard output says where everything lies: `model`, `training`, `triggered`, `clean` are folders,
`target` is what an attacked answer looks like, in the terms of a job's `evaluation`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from gpu_jobs.bundled import datasets
from gpu_jobs.data.formats import write_llava

MODELS = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_jobs.bundled", description="Write the data sets around the bundled suspect.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=("suspect", "base"), default="suspect", help="`base` comes with the set before the attack")
    parser.add_argument("--training", type=int, default=None, help="only the first so many training samples")
    parser.add_argument("--test", type=int, default=None, help="only the first so many samples of each held-out set")
    arguments = parser.parse_args()
    out: Path = arguments.out
    with tempfile.TemporaryDirectory() as images:
        attacked = arguments.model == "suspect"
        training = datasets.suspect_training_set(Path(images)).samples if attacked else datasets.clean_training_samples()
        write_llava(training[: arguments.training], out / "training")
        write_llava(datasets.clean_test_samples()[: arguments.test], out / "clean")
    with tempfile.TemporaryDirectory() as images:
        write_llava(datasets.triggered_test_samples(Path(images))[: arguments.test], out / "triggered")
    described = {
        "model": str(MODELS / arguments.model),
        **{name: str(out / name) for name in ("training", "triggered", "clean")},
        "target": datasets.TARGET.criterion.model_dump(),
    }
    sys.stdout.write(json.dumps(described) + "\n")


if __name__ == "__main__":
    main()
