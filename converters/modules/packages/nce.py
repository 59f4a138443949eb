"""Noise contrastive estimation, of dpnn (`NCEModule.lua`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class NCEModule(nn.Module):
    """`NCEModule.lua`: a linear layer whose softmax is replaced by noise contrastive estimation.

    It scores the target and k noise classes, drawn with the frequencies of the classes.

    Args:
        in_features: Number of features of the input.
        out_features: Number of classes.
        noise_samples: The number k of noise classes per example.
        normalized: Whether evaluation mode returns the probabilities of all classes instead.
        log_softmax: Whether it returns their logarithms.
        z: The normalization constant that scores are divided by. None: the first batch decides, its
            mean score times the number of classes.
        batch_noise: Whether all examples of a batch share their noise classes.
    """

    unigrams: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        noise_samples: int,
        normalized: bool = False,
        log_softmax: bool = False,
        z: float | None = 1.0,
        batch_noise: bool = False,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.noise_samples = noise_samples
        self.normalized = normalized
        self.log_softmax = log_softmax
        self.z = z
        self.batch_noise = batch_noise
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.register_buffer("unigrams", torch.empty(out_features))

    def forward(self, input: list[torch.Tensor]) -> Any:
        """Map `[x (N, in), target (N)]` to `[p(target), p(noise), q(target), q(noise)]`.

        p is the probability of the model, normalized by z only, q the frequency, (N) for the
        targets (classes counted from 1) and (N, k) for the noise.
        """
        features, target = input[0], input[1]
        if self.normalized and not self.training:
            scores = nn.functional.linear(features, self.weight, self.bias)
            return scores.log_softmax(1) if self.log_softmax else scores.softmax(1)
        draws = 1 if self.batch_noise else features.shape[0]
        noise = self.unigrams.multinomial(draws * self.noise_samples, replacement=True)
        noise = noise.reshape(draws, -1).expand(features.shape[0], -1)
        classes = torch.cat([target.long()[:, None] - 1, noise], dim=1)
        scores = (self.weight[classes] * features[:, None]).sum(2) + self.bias[classes]
        model, frequency = scores.exp(), self.unigrams[classes].to(scores.dtype)
        if self.z is None:
            # As in the Lua code, targets count only if each example has noise classes of its own.
            counted = model[:, 1:] if self.batch_noise else model
            self.z = counted.mean().item() * self.out_features
        model = model / self.z
        return [model[:, 0], model[:, 1:], frequency[:, 0], frequency[:, 1:]]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_features}, {self.out_features}, noise_samples={self.noise_samples}"


@register("nn.NCEModule", ignored=("aliasmultinomial",))
def nce_module(source: LuaObject, context: Context) -> nn.Module:
    """Convert `NCEModule.lua`: a linear layer with noise contrastive estimation."""
    weight = source["weight"]
    n_out, n_in = weight.shape
    # Torch7 keeps Z in a tensor of one number, which is below 0 before the first batch.
    z = float(np.ravel(source.get("Z", 1.0))[0])
    with torch.device("meta"):
        module = NCEModule(
            n_in,
            n_out,
            int(source["k"]),
            bool(source.get("normalized")),
            bool(source.get("logsoftmax")),
            z if z > 0 else None,
            bool(source.get("batchnoise")),
        )
    return context.fill(module, weight=weight, bias=source["bias"], unigrams=source["unigrams"])
