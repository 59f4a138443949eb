"""Texts: language models that read and write token by token, in PyTorch or ONNX Runtime."""

from .language_model import LanguageModel, open_language_model
from .sampling import sample_tokens
from .text_loss import TextLoss, text_loss
from .tokenizer import Tokenizer

__all__ = [
    "LanguageModel",
    "TextLoss",
    "Tokenizer",
    "open_language_model",
    "sample_tokens",
    "text_loss",
]
