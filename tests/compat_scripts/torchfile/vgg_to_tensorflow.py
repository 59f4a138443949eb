import numpy as np
import torchfile

t7 = torchfile.load("cifar/cifar-convnet-bn.t7")
inp = "input"
for idx, module in enumerate(t7.modules):
    name = module.name.decode() if module.name is not None else None
    if idx == 0:
        name = "preprocess"
    if module._typename == b"nn.SpatialReflectionPadding":
        left, right, top, bottom = module.pad_l, module.pad_r, module.pad_t, module.pad_b
        print(idx, name, "pad", left, right, top, bottom)
    elif module._typename == b"nn.SpatialConvolution":
        weight = module.weight.transpose([2, 3, 1, 0])
        bias = module.bias
        filters = module.nOutputPlane
        kernel = module.kH, module.kW
        strides = module.dH, module.dW
        print(idx, name, "conv", filters, kernel, strides, weight.shape, "%.4f" % bias.sum())
    elif module._typename == b"nn.ReLU":
        print(idx, name, "relu")
    elif module._typename == b"nn.SpatialMaxPooling":
        print(idx, name, "pool", module.kH, module.kW, module.dH, module.dW, module.ceil_mode)
    else:
        print(idx, name, "skipped", module._typename)
