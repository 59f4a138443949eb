"""`torchlift sample`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .model_options import AS_THE_INPUT, ModelOptions, OutputOptions, run_plugin
from .outputs import output_suffix
from .result import CommandResult
from .sample_images import sample_images
from .values import CountOrZero, NotNegative, Provider

if TYPE_CHECKING:
    from ..converters.inference.text import Tokenizer


def sample(
    model: str,
    *,
    prime: str | None = None,
    length: CountOrZero = 500,
    temperature: NotNegative = 1.0,
    seed: CountOrZero = 0,
    vocab: str | None = None,
    at: str | None = None,
    plugin: str | None = None,
    provider: Provider = "cpu",
    grid: tuple[int, int] | None = None,
    noise: Literal["normal", "uniform"] = "normal",
    output: str | None = None,
    overwrite: bool = False,
    output_options: OutputOptions = AS_THE_INPUT,
) -> CommandResult:
    """Write a text with a model of characters or words, or images with a generator.

    A text is printed as it is made: the prime, then as many tokens as --length says. The model
    reads every token once. With --grid images are made of noise, as many as its first layer takes.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file of a language model, such as
            char-rnn's and torch-rnn's, or of a generator of images, such as DCGAN's.
        prime: The text that the model reads first; where there is none, every token is as
            probable as any other at first, and a model of words reads <eos>.
        length: How many tokens to write: characters, or words where the vocabulary holds words.
        temperature: Below 1 what is probable becomes more so; 0 takes the most probable token.
        seed: Of the random numbers; the same seed gives the same text.
        vocab: A .t7 with the vocabulary where the model has none, with :PATH behind it for a value
            in it; or the .json of torch-rnn's preprocessing.
        at: The path of the network in a .t7 that holds several, such as protos.rnn.
        plugin: A Python file with converters for classes of your own; it is run.
        provider: What to run on: cpu, cuda, or auto.
        grid: Rows and columns of images, such as 8x8, instead of a text.
        noise: What images are made of: normal, with mean 0 and std 1, or uniform from -1 to 1.
        output: The .png file of the images.
        overwrite: Replace a file that is there.
        output_options: How outputs become images.
    """
    if grid is not None or output is not None:
        if grid is None or output is None:
            raise UsageError("images need both: --grid ROWSxCOLUMNS and -o OUT.png")
        if prime is not None or vocab is not None:
            raise UsageError("--prime and --vocab are for texts, --grid is for images")
        if output_options.output_mean:
            raise UsageError("--output-mean undoes what is done to an input: noise has no mean")
        output_suffix(output, [".png"])
        return sample_images(
            model,
            output,
            grid,
            seed=seed,
            noise=noise,
            provider=provider,
            overwrite=overwrite,
            model_options=ModelOptions(at=at, plugin=plugin),
            output_options=output_options,
        )
    from ..converters.inference.text import Tokenizer, open_language_model, sample_tokens

    run_plugin(plugin)
    opened = open_language_model(model, provider, vocab=vocab, at=at)
    tokenizer = Tokenizer(opened.vocabulary)
    tokens = sample_tokens(
        opened, _read_first(tokenizer, prime), length, temperature=temperature, seed=seed
    )
    pieces = tokenizer.texts(tokens)
    blank = [" "] if tokenizer.is_words and prime and not prime[-1].isspace() else []
    return CommandResult(
        lambda: {"prime": prime or "", "text": "".join(pieces)},
        stream=chain([prime or "", *blank], pieces, ["\n"]),
    )


def _read_first(tokenizer: Tokenizer, prime: str | None) -> list[int]:
    """Return the tokens that the model reads before it writes.

    Raises:
        TorchliftError: If the vocabulary lacks some of the prime's.
    """
    if prime:
        return tokenizer.encode(prime.encode("utf-8", "surrogateescape"))
    end_of_line = tokenizer.end_of_line
    return [] if end_of_line is None else [end_of_line]
