import sys

import torchfile

model = torchfile.load("digits/digits-lenet5-bn.t7")
for i, module in enumerate(model.modules):
    print(i, module._typename, module.weight.shape if module.weight is not None else "-")
