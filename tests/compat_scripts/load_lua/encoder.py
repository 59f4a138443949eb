import torch
import torch.nn as nn
from torch.utils.serialization import load_lua


class encoder1(nn.Module):
    def __init__(self, vgg1):
        super(encoder1, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, 1, 0)
        self.conv1.weight = torch.nn.Parameter(vgg1.get(0).weight.float())
        self.conv1.bias = torch.nn.Parameter(vgg1.get(0).bias.float())
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv1(x))


vgg1 = load_lua("digits/digits-lenet5.t7")
e1 = encoder1(vgg1)
out = e1(torch.ones(1, 1, 8, 8))
print(out.size(), "%.4f" % out.sum().item())
