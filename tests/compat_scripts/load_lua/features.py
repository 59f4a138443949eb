import torch
from torch.utils.serialization import load_lua

net = load_lua("cifar/cifar-convnet-bn.t7")
net.evaluate()
net.forward(torch.ones(2, 3, 32, 32).mul(0.5))
features = net.get(len(net.modules) - 3).output
print(tuple(features.size()), [type(m).__name__ for m in net.modules[-3:]])
net.remove()
net.remove()
print(torch.equal(net.forward(torch.ones(2, 3, 32, 32).mul(0.5)), features), net.size())
