import numpy as np
import torchfile
from torchfile import TorchObject, hashable_uniq_dict


def show(o, depth=0):
    pad = "  " * depth
    if isinstance(o, TorchObject):
        print(pad + "object", o.torch_typename())
        show(o._obj, depth + 1)
    elif isinstance(o, hashable_uniq_dict):
        for k in sorted(o, key=str):
            print(pad + str(k))
            show(o[k], depth + 1)
    elif isinstance(o, list):
        print(pad + "list of %d" % len(o))
        for x in o[:2]:
            show(x, depth + 1)
    elif isinstance(o, np.ndarray):
        print(pad + "array", o.shape, o.dtype)
    else:
        print(pad + repr(o))


show(torchfile.load("projects/neuraltalk2_expander.t7"))
