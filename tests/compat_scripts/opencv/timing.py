import cv2

net = cv2.dnn.readNetFromTorch("digits/digits-lenet5.t7")
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
net.setInput(cv2.dnn.blobFromImage(cv2.imread("digit.png", 0), 1 / 255.0))
output = net.forward()
t, _ = net.getPerfProfile()
label = "Inference time: %.2f ms" % (t * 1000.0 / cv2.getTickFrequency())
print(label.split(":")[0], t > 0, output.shape, net.empty())
