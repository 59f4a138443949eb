import torch
from torch.utils.serialization import load_lua

model = load_lua("compat/branches.t7")


def show(m, depth=0):
    extra = ""
    for field in ("dimension", "dim", "index", "permutations"):
        value = m.__dict__.get(field)
        if value is not None:
            extra += " %s=%s" % (field, value)
    print("  " * depth + type(m).__name__ + extra)
    for child in m.__dict__.get("modules", [])[:4]:
        show(child, depth + 1)



show(model)
print(model.get(2).dimension, model.get(6).dimension)
protos = load_lua("compat/checkpoint.t7").protos
show(protos.rnn)
