"""`torchlift serve`: a checked classifier behind a standard protocol.

`command.py` reads the options, `worker.py` is one process, `supervisor.py` watches over several.
"""

from .command import serve

__all__ = ["serve"]
