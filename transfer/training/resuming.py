"""What of a run may change when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...converters.settings import changed_settings
from ...converters.validation import check_entries, read_yaml
from ..errors import TrainingError
from .options import ADDED_OPTIONS, RENAMED_OPTIONS

#: The file with the options of a run, in its folder.
CONFIG = "config.yaml"

#: Increased when an older torchlift could not resume a run of this one. Version 1, of torchlift
#: 0.1.0, has no entry for it.
FORMAT_VERSION = 2

#: Options that may change when a run is resumed.
_CHANGEABLE = {"epochs", "patience", "output", "tracker", "device", "threads", "workers"}

#: Inputs that older runs have no fingerprint of: they may be any. And what messages call them.
_UNKNOWN = "unknown"
_ADDED_INPUTS = {"val": _UNKNOWN}
_CALLED = {"val": "validation images"}


def check_resumable(
    path: Path, facts: Mapping[str, Any], config: Mapping[str, Any], inputs: Mapping[str, Any]
) -> None:
    """Check that the run in a folder is the one that is asked for.

    Args:
        path: The folder.
        facts: What its run.json says.
        config: Every option that is asked for.
        inputs: Fingerprints of the model and of the data.

    Raises:
        TrainingError: An option, the model or the data has changed, or the run is of a version
            that cannot be resumed.
    """
    version = facts.get("format_version", 1)
    if version not in (1, FORMAT_VERSION):
        raise TrainingError(
            f"{path} is a run of format version {version}; torchlift {__version__} resumes "
            f"versions 1 and {FORMAT_VERSION}: use the version that wrote it, {facts['torchlift']}"
        )
    try:
        stored = check_entries(read_yaml((path / CONFIG).read_text(encoding="utf-8")), {})
    except ValueError as error:
        raise TrainingError(f"{path / CONFIG}: damaged: {error}") from None
    renamed = {RENAMED_OPTIONS.get(key, key): value for key, value in stored.items()}
    options = {**{key: ADDED_OPTIONS[key] for key in ADDED_OPTIONS if key in config}, **renamed}
    # 0.1.0 wrote a list as it was typed.
    options |= {
        key: [name.strip() for name in options[key].split(",")]
        for key, value in config.items()
        if isinstance(value, list) and isinstance(options.get(key), str)
    }
    changes = changed_settings(
        {key: value for key, value in options.items() if key not in _CHANGEABLE},
        {key: value for key, value in config.items() if key not in _CHANGEABLE},
    )
    # Where the options are the same, the files themselves have changed.
    before = {**_ADDED_INPUTS, **facts["inputs"]}
    others = [
        _CALLED.get(key, key)
        for key in {**before, **inputs}
        if before.get(key) not in (inputs.get(key), _UNKNOWN)
    ]
    if not changes and others:
        changes = f"{' and '.join(others)} of the same name, but with other contents"
    if changes:
        raise TrainingError(
            f"{path} is a run with {changes}; name another folder, or start again with "
            "overwrite=True"
        )
