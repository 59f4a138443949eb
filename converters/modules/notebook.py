"""What a notebook shows of a network: its layers, which unfold."""

from __future__ import annotations

from torch import nn

from ..t7.inspection.notebook import NotebookView, as_html, unfolding

#: Levels of modules in modules.
_DEPTH = 12


def show_in_notebooks(network: nn.Module) -> None:
    """Have notebooks show a network as its layers; its `repr` stays PyTorch's."""
    vars(network)["_repr_html_"] = NotebookView(network, network_html)


def network_html(network: nn.Module) -> str:
    """Return the layers of a network as HTML without scripts, styles or links.

    Example:
        >>> network_html(nn.Sequential(nn.Tanh()))
        '<details open><summary>Sequential</summary><ul><li><b>0</b> Tanh</li></ul></details>'
    """
    return _html(network, "", _DEPTH)


def _html(module: nn.Module, name: str, levels: int) -> str:
    arguments = module.extra_repr()
    text = f"{type(module).__name__}({arguments})" if arguments else type(module).__name__
    children = list(module.named_children())
    inside = [_html(child, each, levels - 1) for each, child in children] if levels else []
    if children and not levels:
        inside = [f"<i>{len(children):,} more</i>"]
    line = f"<b>{as_html(name)}</b> {as_html(text)}" if name else as_html(text)
    return unfolding(line, inside, is_open=not name)
