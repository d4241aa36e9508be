"""The model as ONNX graphs: parts, lowering, conversion, simplification, costs."""
