"""What makes the three one program: the specification, its checks, the kit and ONNX."""
