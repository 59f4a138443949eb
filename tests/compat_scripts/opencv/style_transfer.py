import cv2
import numpy as np

net = cv2.dnn.readNetFromTorch("compat/faststyle_none.t7")
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
inp = cv2.imread("photo.png")
inWidth, inHeight = inp.shape[1], inp.shape[0]
inp = cv2.dnn.blobFromImage(inp, 1.0, (inWidth, inHeight), (103.939, 116.779, 123.68), swapRB=False, crop=False)
net.setInput(inp)
out = net.forward()
out = out.reshape(3, out.shape[2], out.shape[3])
out[0] += 103.939
out[1] += 116.779
out[2] += 123.68
out /= 255
out = out.transpose(1, 2, 0)
print(out.shape, "%.2f %.2f" % (out.mean(), out.std()))
