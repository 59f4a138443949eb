import numpy as np
import torchfile

data = torchfile.load("digits/digits-test.t7")
print(sorted(data.keys()))
x, y = data[b"data"], data[b"label"]
print(x.shape, x.dtype, y.shape, y.dtype)
print(np.bincount(y.astype(int)).tolist(), x[y == 3].mean().round(4))
x = np.transpose(x, (0, 2, 3, 1)).astype("float32") / 255.0
print(x.flags.writeable, x.max())
