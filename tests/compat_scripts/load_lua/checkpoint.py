import torch
from torch.utils.serialization import load_lua

checkpoint = load_lua("compat/faststyle_none.t7")
print(sorted(checkpoint.keys()))
model = checkpoint.model
model.evaluate()
image = torch.linspace(-100, 100, 3 * 16 * 16).view(1, 3, 16, 16)
y = model.forward(image)
print(tuple(y.size()), checkpoint["nothing"] if "nothing" in checkpoint else checkpoint.nothing)
