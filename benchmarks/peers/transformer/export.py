"""The model as ONNX, as optimum's documentation writes it: exported, then optimized at its level O2.

    python -m benchmarks.peers.transformer.export --model FOLDER --out FOLDER

Runs in the environment of the peer `optimum`. O2 fuses operators and changes no result beyond rounding; O3
would replace GELU by an approximation.
"""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from optimum.exporters.onnx import main_export
from optimum.onnxruntime import AutoOptimizationConfig, ORTModelForSequenceClassification, ORTOptimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with TemporaryDirectory() as plain:
        main_export(
            args.model, plain, task="text-classification", library_name="transformers", do_validation=False
        )
        ORTOptimizer.from_pretrained(ORTModelForSequenceClassification.from_pretrained(plain)).optimize(
            save_dir=part, optimization_config=AutoOptimizationConfig.O2(), file_suffix=""
        )
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(args.model / name, part / name)
    part.rename(args.out)


if __name__ == "__main__":
    main()
