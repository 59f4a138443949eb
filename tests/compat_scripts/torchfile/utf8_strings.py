import torchfile

classes = torchfile.load("digits/digits_classes.t7", utf8_decode_strings=True)
print(classes)
ms = torchfile.load("digits/digits_meanStd.t7", utf8_decode_strings=True)
mean, std = ms["mean"], ms["std"]
print(["%.4f" % m for m in mean], ["%.4f" % s for s in std], ms.mean == mean)
