"""Other runtimes that an `.onnx` file can be run in, each in a process of its own."""
