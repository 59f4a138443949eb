import cv2
import numpy as np

net = cv2.dnn.readNetFromTorch("compat/branches.t7")
print(net.getLayerNames())
x = np.linspace(0, 1, 2 * 3 * 16 * 16, dtype=np.float32).reshape(2, 3, 16, 16)
net.setInput(x)
y = net.forward()
print(y.shape, ["%.2f" % v for v in y[0]])
print(net.forward("l7_torchMerge").shape, net.forward("l10_Identity").shape if net.getLayerId("l10_Identity") > 0 else "")
net = cv2.dnn.readNetFromTorch("compat/branches.t7", evaluate=False)
net.setInput(x)
print(len(net.getLayerNames()), ["%.1f" % v for v in net.forward()[0]])
