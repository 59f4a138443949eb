"""The classifier of `benchmarks/serve.py` in LitServe: `litserve_app.py MODEL.onnx PORT`."""

import sys

import litserve
import numpy as np
import onnxruntime
from fastapi import UploadFile
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Classifier(litserve.LitAPI):
    """Decodes, prepares and runs one image a request, as its documentation shows."""

    def setup(self, device: str) -> None:
        """Open the network on one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request: UploadFile) -> np.ndarray:
        """Return an image as float32 (1, 3, 224, 224)."""
        image = Image.open(request.file).convert("RGB").resize((224, 224), Image.BILINEAR)
        values = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        return values.transpose(2, 0, 1)[None]

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits."""
        return self.session.run(None, {"input": inputs})[0]

    def encode_response(self, output: np.ndarray) -> dict[str, list[int]]:
        """Return the five best classes."""
        return {"top": np.argsort(-output[0])[:5].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
