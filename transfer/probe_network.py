"""A logistic probe as a network of its own: features, standardization and regression in one."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..converters.images.preprocessing import Preprocessing
from ..converters.input_shapes import InputShapes
from ..converters.modules.layers.arithmetic import Add, CMul
from ..converters.saved import SavedModel
from .errors import ProbeError
from .features.cut_network import cut_network
from .features.store import FeatureStore
from .find_layers import find_tap
from .probe_methods import LinearLayer, Scale


def feature_network(model: SavedModel, store: FeatureStore, layer: str) -> SavedModel:
    """Return the network that computes the features of a store, one row for each example.

    Args:
        model: The network of the store (see `reopen`); its layers are shared with the result.
        store: The store.
        layer: The name of the features in the store.

    Raises:
        LayerError: If the network has no such layer.
        ProbeError: If the network gives features of another size, or the store does not say what
            its network takes.
    """
    manifest = store.manifest
    source = manifest.get("source")
    shape = tuple(source["input_shape"]) if source else model.input_shape
    if shape is None:
        raise ProbeError(f"{store.path} does not say what its network takes: extract it again")
    example = torch.zeros(2, *shape)
    body = cut_network(model.module.eval(), find_tap(model.module, layer), example)
    layers = [*body] if type(body) is nn.Sequential else [body]
    with torch.no_grad():
        dimensions = body(example).dim()
    if manifest["pool"] != "none" and dimensions > 2:
        pool = nn.AdaptiveAvgPool1d if manifest["pool"] == "avg" else nn.AdaptiveMaxPool1d
        layers += [nn.Flatten(2), pool(1)]
    network = nn.Sequential(*layers, nn.Flatten()).eval()
    with torch.no_grad():
        rows = network(example)
    count = int(torch.tensor(store.layers[layer]).prod())
    if rows.shape != (2, count):
        raise ProbeError(f"{layer} has {rows.shape[-1]} numbers an example, in the store {count}")
    result = SavedModel(network, "features", source=model.source, notes=list(model.notes))
    result.set_inputs(InputShapes.single(shape))
    preprocessing = manifest["preprocessing"]
    result.preprocessing = (
        # Images that were inputs already say nothing of how others become inputs.
        model.preprocessing if preprocessing is None else Preprocessing.from_json(preprocessing)
    )
    if manifest["dtype"] == "float16":
        result.notes.append("the probe was fitted on features rounded to float16")
    return result


def probe_network(
    features: SavedModel, scale: Scale, linear: LinearLayer, labels: list[str] | None
) -> SavedModel:
    """Return a classifier: features, their standardization and a logistic regression.

    Standardization stays a layer of its own: put into the weights, a mean much larger than the
    deviation would cost the digits that tell the classes apart.

    Args:
        features: The network of the features (see `feature_network`).
        scale: The standardization.
        linear: The logistic regression of standardized features.
        labels: The class names, or None.

    Example:
        >>> import numpy as np
        >>> features = SavedModel(nn.Sequential(nn.Flatten()), "features", (1, 1, 2))
        >>> scale = Scale(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        >>> linear = LinearLayer(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2))
        >>> model = probe_network(features, scale, linear, ["cat", "dog"])
        >>> model.module(torch.tensor([[[[3.0, 10.0]]]])).tolist()
        [[1.0, 2.0]]
    """
    classes, count = linear.weight.shape
    shift, stretch, head = Add([count]), CMul([count]), nn.Linear(count, classes)
    mean = scale.mean.astype(np.float32)
    # What float32 rounds off a mean is the same for all images: the bias takes it.
    bias = linear.bias + linear.weight @ ((mean - scale.mean) / scale.std)
    with torch.no_grad():
        shift.bias.copy_(torch.from_numpy(-mean))
        stretch.weight.copy_(torch.from_numpy(1 / scale.std))
        head.weight.copy_(torch.from_numpy(linear.weight))
        head.bias.copy_(torch.from_numpy(bias))
    assert isinstance(features.module, nn.Sequential)
    network = nn.Sequential(*features.module, shift, stretch, head)
    model = SavedModel(
        network.eval(),
        "logits",
        features.input_shape,
        labels,
        features.preprocessing,
        list(features.notes),
        features.source,
        features.inputs,
    )
    model.module.requires_grad_(False)
    return model
