from torch.utils.serialization import load_lua


def lua_recursive_source(module):
    s = []
    for m in module.modules:
        name = type(m).__name__
        real = m
        if name == "TorchObject":
            name = m._typename.replace("cudnn.", "")
            m = m._obj
        if name == "SpatialConvolution":
            if not hasattr(m, "groups") or m.groups is None:
                m.groups = 1
            s += ["nn.Conv2d({},{},{},{},{},bias={})".format(m.nInputPlane, m.nOutputPlane,
                  (m.kW, m.kH), (m.dW, m.dH), (m.padW, m.padH), m.bias is not None)]
        elif name == "SpatialBatchNormalization":
            s += ["nn.BatchNorm2d({},{},{},{})".format(m.running_mean.size(0), m.eps, m.momentum, m.affine)]
        elif name == "ReLU":
            s += ["nn.ReLU()"]
        elif name == "SpatialMaxPooling":
            s += ["nn.MaxPool2d({},{},{},ceil_mode={})".format((m.kW, m.kH), (m.dW, m.dH), (m.padW, m.padH), m.ceil_mode)]
        elif name == "View" or name == "Reshape":
            s += ["Lambda(lambda x: x.view(x.size(0),-1)) # {}".format(tuple(m.size))]
        elif name == "Linear":
            s += ["nn.Linear({},{},bias={})".format(m.weight.size(1), m.weight.size(0), m.bias is not None)]
        elif name == "LogSoftMax":
            s += ["nn.LogSoftmax()"]
        elif name in ("Sequential", "Concat", "ConcatTable"):
            s += [name, lua_recursive_source(m)]
        else:
            s += "# " + name + " Not Implement,\n"
    return s


model = load_lua("digits/digits-lenet5-bn.t7", unknown_classes=True)
if type(model).__name__ == "hashable_uniq_dict":
    model = model.model
model.gradInput = None
for line in lua_recursive_source(model):
    print(line)
