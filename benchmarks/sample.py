"""What `sample` adds to a network of texts: `python benchmarks/sample.py [MODEL.t7 …]`.

Tokens a second at temperature 0: of a bare loop in PyTorch, which runs the same step and takes the
most probable token; of `sample`; and of `sample` with the exported file in ONNX Runtime. The turns
alternate, so that what else the machine does meets all alike. The table goes into
`docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import machine, shortest_times, table, write_section

from torchlift.converters.inference.text import open_language_model, sample_tokens
from torchlift.converters.inference.text.language_model import LanguageModel
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.converters.saved.token_steps import find_step, memory_layers, token_sequence

#: The checkpoint that is in the repository: torch-rnn's.
_OURS = Path(__file__).resolve().parent.parent / "fixtures" / "projects" / "torchrnn_lstm.t7"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, default=[_OURS])
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(file, options.tokens, options.rounds) for file in options.models]
    header = ["checkpoint", "parameters", "bare loop", "sample", "ratio", "ONNX Runtime", "ratio"]
    text = f"""\
`python benchmarks/sample.py --tokens {options.tokens}`, on {machine("torch", "onnxruntime")}.

Tokens a second at temperature 0, one thread, the best of {options.rounds} rounds; the ratios are to
the bare loop in PyTorch.

{table(header, rows)}
"""
    print(text)
    if not options.print:
        write_section("Texts", text)


def row(file: Path, tokens: int, rounds: int) -> list[str]:
    """Return the row of a checkpoint."""
    model = open_model(file)
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / "step.onnx")
        writers = {
            "bare": bare_loop(model, tokens),
            "sample": writer(open_language_model(file, "cpu"), tokens),
            "onnx": writer(open_language_model(Path(folder) / "step.onnx", "cpu"), tokens),
        }
        best = shortest_times(writers, rounds)
    rates = {name: tokens / seconds for name, seconds in best.items()}
    ratios = [f"{rates[name] / rates['bare']:.2f}" for name in ("sample", "onnx")]
    parameters = sum(one.numel() for one in model.module.parameters())
    sample, onnx = (f"{rates[name]:,.0f}" for name in ("sample", "onnx"))
    bare = f"{rates['bare']:,.0f}"
    return [file.name, f"{parameters:,}", bare, sample, ratios[0], onnx, ratios[1]]


def writer(model: LanguageModel, tokens: int) -> Callable[[], object]:
    """Return what writes tokens with a language model."""
    return lambda: list(sample_tokens(model, [0], tokens, temperature=0))


def bare_loop(model: SavedModel, tokens: int) -> Callable[[], object]:
    """Return what a program writes that knows its network: run, take the largest, run again."""
    module, step = model.module, find_step(model.module)

    @torch.inference_mode()
    def steps() -> None:
        assert step is not None
        like = next(module.parameters())
        numbers = torch.arange(1, step.scores + 1)
        inputs = torch.eye(step.scores, dtype=like.dtype) if step.is_one_hot else numbers
        states, place = [like.new_zeros(1, width) for width in step.states], 0
        for _ in range(tokens):
            *states, scores = module([inputs[place : place + 1], *states])
            place = int(scores.argmax())

    @torch.inference_mode()
    def sequences() -> None:
        shapes = token_sequence(module)
        assert shapes is not None
        (shape,) = shapes.leaves()
        place = 0
        layers = memory_layers(module)
        for layer in layers:
            layer.memory = []
        for _ in range(tokens):
            place = int(module(torch.tensor([place + 1]).unsqueeze(shape.batch_axis)).argmax())
        for layer in layers:
            layer.memory = None

    return sequences if step is None else steps


if __name__ == "__main__":
    main()
