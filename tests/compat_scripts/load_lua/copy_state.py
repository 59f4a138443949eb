import torch
import torch.nn as nn
from torch.utils.serialization import load_lua

src = load_lua("digits/digits-lenet5.t7")
dst = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                    nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84),
                    nn.ReLU(), nn.Linear(84, 10), nn.LogSoftmax(1))
weights, grads = src.parameters()
for p, w in zip(dst.parameters(), weights):
    p.data.copy_(w)
src.evaluate()
x = torch.linspace(-1, 1, 2 * 32 * 32).view(2, 1, 32, 32)
print(len(weights), (dst(x) - src.forward(x)).abs().max().item() < 1e-5)
