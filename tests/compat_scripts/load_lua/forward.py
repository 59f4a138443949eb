import torch
from torch.utils.serialization import load_lua

model = load_lua("digits/digits-lenet5-bn.t7")
model.evaluate()
test = load_lua("digits/digits-test.t7")
scale = load_lua("digits/digits_meanStd.t7")
x = (test.data[:50].float() - scale.mean[0]) / scale.std[0]
out = model.forward(x)
lua = load_lua("digits/digits-lenet5-bn_lua_outputs.t7")
print(tuple(out.size()), (out - lua.log_probabilities[:50].float()).abs().max().item() < 1e-4)
_, best = out.max(1)
print((best + 1).tolist()[:20], (best + 1 == test.label[:50].long()).float().mean().item())
