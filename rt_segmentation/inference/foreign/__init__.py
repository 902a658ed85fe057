"""ONNX graphs of somebody else's: read, judged by what they gave there, and put into a graph of ours."""
