"""`torchlift.compat` is `torchlift.converters.compat`, as `os.path` is `posixpath`."""

import sys

from .converters import compat
from .converters.compat import torchfile

sys.modules[__name__] = compat
sys.modules[f"{__name__}.torchfile"] = torchfile
