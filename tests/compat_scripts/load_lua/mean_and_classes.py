from torch.utils.serialization import load_lua

stats = load_lua("cifar/cifar_meanStd.t7")
print(["%.4f" % m for m in stats["mean"]], ["%.4f" % s for s in stats.std])
classes = load_lua("cifar/cifar_classes.t7")
print(len(classes), classes[0], type(classes).__name__)
