import cv2
import numpy as np

net = cv2.dnn.readNetFromTorch("cifar/cifar-convnet-bn.t7")
image = cv2.imread("photo.png")
blob = cv2.dnn.blobFromImages([image, image[:, ::-1], image[::-1]], 1 / 255.0, (32, 32), (104, 117, 123))
net.setInput(blob)
print(blob.shape, net.forward().argmax(axis=1).tolist())
