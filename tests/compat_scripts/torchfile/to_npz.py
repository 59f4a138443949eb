import io

import numpy as np
import torchfile

model = torchfile.load("cifar/cifar-convnet-bn.t7")
arrays = {}
for i, layer in enumerate(model["modules"]):
    for field in ("weight", "bias", "running_mean", "running_var"):
        value = layer[field]
        if isinstance(value, np.ndarray):
            arrays["%s_%d_%s" % (layer._typename.decode()[3:], i, field)] = value
out = io.BytesIO()
np.savez(out, **arrays)
out.seek(0)
for name, value in np.load(out).items():
    print(name, value.shape, value.dtype, "%.4f" % np.abs(value).sum())
