"""A network of timm as one layer, so that a saved model can name it."""

from __future__ import annotations

from torch import nn

from ..modules.registry import layer
from ..requirements import require
from .errors import SavedModelError
from .named_network import NamedNetwork, build_with_buffers

#: Far above those of any network, and below what fills the memory of a machine.
MOST_CLASSES = 100_000
LARGEST_IMAGE = 4096


@layer
class TimmNetwork(NamedNetwork):
    """A classifier that timm builds, with random weights; nothing is downloaded.

    Args:
        name: Its architecture in timm, such as `convnext_tiny`.
        num_classes: Number of outputs.
        img_size: Side of the images, of a network that is built for one size; its own by default.

    Raises:
        MissingPackageError: If timm is not installed.
        SavedModelError: If timm has no such architecture, or cannot build it so.

    Example:
        With timm installed:

        ```python
        network = TimmNetwork("convnext_atto", num_classes=3)
        network.classifier  # Linear(in_features=320, out_features=3, bias=True)
        ```
    """

    def __init__(self, name: str, num_classes: int = 1000, img_size: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.img_size = img_size
        self.network = _build_timm(name, num_classes, img_size)

    @property
    def classifier(self) -> nn.Module:
        """The part of the network in which its head is.

        Raises:
            SavedModelError: If there are two heads.
        """
        # Typed as a tensor or module, as all attributes of an nn.Module.
        part = self.network.get_classifier()  # type: ignore[operator]
        if not isinstance(part, nn.Module):
            raise SavedModelError(
                f"timm:{self.name} has two heads, one of them for a teacher's outputs; take a "
                "network with one"
            )
        return part


def timm_architectures() -> list[str]:
    """Return the names of timm's architectures.

    Raises:
        MissingPackageError: If timm is not installed.
    """
    require("timm:NAME", "timm")
    import timm

    return list(timm.list_models())


def _build_timm(name: str, num_classes: int, img_size: int | None) -> nn.Module:
    # A name with a colon is a place to timm, from which it would load something.
    if name not in timm_architectures():
        raise SavedModelError(f"timm has no architecture {name!r}")
    if not 1 <= num_classes <= MOST_CLASSES:
        raise SavedModelError(f"{num_classes} classes: 1 to {MOST_CLASSES:,} were expected")
    if img_size is not None and not 1 <= img_size <= LARGEST_IMAGE:
        raise SavedModelError(f"img_size={img_size}: 1 to {LARGEST_IMAGE} were expected")
    import timm

    size = {} if img_size is None else {"img_size": img_size}
    try:
        network: nn.Module = build_with_buffers(
            lambda: timm.create_model(name, pretrained=False, num_classes=num_classes, **size)
        )
    except Exception as error:  # of a constructor that does not take these arguments
        raise SavedModelError(f"timm cannot build {name}: {error}") from error
    return network
