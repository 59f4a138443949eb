import torch
from torch.utils.serialization import load_lua

model = load_lua("digits/digits-lenet5.t7")
model.evaluate()
x = torch.ones(1, 1, 32, 32)
model.forward(x)
last = [m for m in model.modules if type(m).__name__ == "Linear"][-1]
last.weight.fill_(0)
last.bias.zero_()
print(["%.4f" % v for v in model.forward(x).view(-1).tolist()])
model.double()
print(model.forward(x.double()).type(), model.type())
model.float()
print([type(m).__name__ for m in model.listModules()][:4], len(model.findModules("nn.Linear")))
