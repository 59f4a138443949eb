import cv2

net = cv2.dnn.readNetFromTorch("digits/digits-lenet5.t7")
ln = net.getLayerNames()
ln = [ln[i - 1] for i in net.getUnconnectedOutLayers().flatten()] if hasattr(net.getUnconnectedOutLayers(), "flatten") else [ln[i - 1] for i in net.getUnconnectedOutLayers()]
net.setInput(cv2.dnn.blobFromImage(cv2.imread("digit.png", 0), 1 / 255.0))
layerOutputs = net.forward(ln)
print(ln, net.getUnconnectedOutLayersNames(), len(layerOutputs), [o.shape for o in layerOutputs])
first, last = net.forward(["l1_Convolution", ln[0]])
print(first.shape, last.argmax())
