import torch
import torchfile


def copy_layers(t7_model, state, prefix=""):
    for i, m in enumerate(t7_model.modules):
        name = m.torch_typename().decode().split(".")[-1]
        if name in ("SpatialConvolution", "Linear"):
            state[prefix + "%d.weight" % i] = torch.from_numpy(m.weight)
            state[prefix + "%d.bias" % i] = torch.from_numpy(m.bias)
        elif name == "SpatialBatchNormalization":
            state[prefix + "%d.weight" % i] = torch.from_numpy(m.weight)
            state[prefix + "%d.bias" % i] = torch.from_numpy(m.bias)
            state[prefix + "%d.running_mean" % i] = torch.from_numpy(m.running_mean)
            state[prefix + "%d.running_var" % i] = torch.from_numpy(m.running_var)
    return state


state = copy_layers(torchfile.load("digits/digits-lenet5-bn.t7"), {})
for k in sorted(state):
    print(k, tuple(state[k].shape), round(float(state[k].double().sum()), 4))
