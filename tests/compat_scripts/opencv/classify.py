import cv2
import numpy as np

classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
net = cv2.dnn.readNetFromTorch("cifar/cifar-convnet-bn.t7")
blob = cv2.dnn.blobFromImage(cv2.imread("photo.png"), 1 / 63.0, (32, 32), (125.3, 123.0, 113.9), True)
net.setInput(blob)
prob = np.exp(net.forward()[0])
for i in np.argsort(prob)[::-1][:3]:
    print("%s %.3f" % (classes[i], prob[i]))
