import cv2
import numpy as np

net = cv2.dnn.readNetFromTorch("digits/digits-lenet5-bn.t7", isBinary=True)
for name in net.getLayerNames():
    layer = net.getLayer(net.getLayerId(name))
    print(layer.name, layer.type, [(b.shape, "%.3f" % b.sum()) for b in layer.blobs])
print(net.getParam(1, 0).shape, net.getLayerTypes(), net.getLayersCount("ReLU"))
