import cv2
import numpy as np

net = cv2.dnn.readNetFromTorch("digits/digits-lenet5-bn.t7", True, False)
gray = cv2.imread("digit.png", cv2.IMREAD_GRAYSCALE)
blob = gray[np.newaxis, np.newaxis].astype(np.uint8)
net.setInput(blob, "", 1 / 78.6, (33.3,))
out = net.forward()
net.setInput((blob.astype(np.float32) - 33.3) / 78.6)
print(out.dtype, out.shape, np.allclose(out, net.forward(), atol=1e-4), out.argmax())
