import cv2

net = cv2.dnn.readNetFromTorch("digits/digits-lenet5.t7")
net.setInput(cv2.dnn.blobFromImage(cv2.imread("digit.png", 0), 1 / 255.0))
for name in net.getLayerNames():
    out = net.forward(name)
    print(net.getLayerId(name), name, out.shape, "%.1f" % abs(out).sum())
