"""Fuzz the `.t7` reader guided by coverage; needs `pip install atheris` (Linux).

Copy the files of `fixtures/formats` to a corpus folder, then run `python tests/fuzz/guided.py
-max_total_time=900 -rss_limit_mb=2048 CORPUS_FOLDER`. All options are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["torchlift.converters.t7"]):
    from oracle import exercise

if __name__ == "__main__":
    atheris.Setup(sys.argv, exercise)
    atheris.Fuzz()
