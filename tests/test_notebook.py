"""What a notebook shows: trees of values and layers, with other people's text as text."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import weakref
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import load_model
from torchlift.converters.modules.notebook import network_html
from torchlift.converters.t7 import LuaObject, LuaTable

ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "</details></ul><iframe src='http://example.org'>",
    "\x1b]8;;http://example.org\x07",
    "\u202egnp.exe",
)


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(value: Any) -> Reader:
    reader = Reader(value._repr_html_())
    assert reader.tags <= {"details", "summary", "ul", "li", "b", "i"}
    assert reader.attributes <= {"open"}
    assert all(character.isprintable() for character in reader.text)
    return reader


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_of_a_file_is_text(attack: str) -> None:
    table = LuaTable({attack: attack, "class": LuaObject(attack, LuaTable({attack: 1}))})
    table[attack.encode() + b"\xff"] = attack.encode() + b"\xff"
    shown = read(table).text
    assert "alert" not in attack or "alert(1)" in shown
    read(LuaObject(attack, table))


def test_values_unfold_to_a_limit() -> None:
    table = LuaTable(
        {"weight": np.ones((2, 3), np.float32), "many": LuaTable.from_list(["x"] * 99)}
    )
    table["again"] = table
    text = read(table).text
    assert "2×3" in text
    assert "49 more" in text
    assert re.search(r"again.*is ", text)
    deep = LuaTable()
    for _ in range(500):
        deep = LuaTable({"in": deep})
    assert len(deep._repr_html_()) < 2000


def test_networks_show_their_layers() -> None:
    model = load_model(FIXTURES / "digits" / "digits-lenet5-bn.t7")
    text = read(model).text
    assert "Sequential" in text
    assert "Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))" in text
    assert "_repr_html_" not in model.state_dict()


def test_a_view_follows_copies_and_keeps_nothing_alive() -> None:
    model = convert(t7.load(FIXTURES / "digits" / "digits-lenet5.t7"))
    twin = copy.deepcopy(model)
    twin[0] = torch.nn.Tanh()
    assert "Tanh" in twin._repr_html_()
    assert "Tanh" not in model._repr_html_()
    again = pickle.loads(pickle.dumps(model))
    assert again[0].weight.equal(model[0].weight)
    gc.disable()
    try:
        alive = weakref.ref(model)
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_arguments_are_shown_and_only_the_network_is_open() -> None:
    deep: nn.Module = nn.Linear(3, 2, bias=False)
    for _ in range(14):
        deep = nn.Sequential(deep)
    text = network_html(deep)
    assert text.startswith("<details open><summary>Sequential</summary>")
    assert text.count("<details open>") == 1
    assert text.count("<details>") == 12
    assert "<i>1 more</i>" in text
    shown = network_html(nn.Sequential(nn.Linear(3, 2, bias=False)))
    assert "Linear(in_features=3, out_features=2, bias=False)" in shown


def test_a_layer_at_the_last_level_is_not_said_to_hold_more() -> None:
    deep: nn.Module = nn.Tanh()
    for _ in range(12):
        deep = nn.Sequential(deep)
    assert "more" not in network_html(deep)
    assert network_html(deep).count("<ul>") == 12
    assert "<i>1 more</i>" in network_html(nn.Sequential(deep))
