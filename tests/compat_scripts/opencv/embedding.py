import cv2

embedder = cv2.dnn.readNetFromTorch("cifar/cifar-convnet-bn.t7")
face = cv2.imread("photo.png")
(fH, fW) = face.shape[:2]
faceBlob = cv2.dnn.blobFromImage(face, 1.0 / 255, (32, 32), (0, 0, 0), swapRB=True, crop=False)
embedder.setInput(faceBlob)
vec = embedder.forward()
print(fH, fW, vec.shape, ["%.3f" % v for v in vec.flatten()])
