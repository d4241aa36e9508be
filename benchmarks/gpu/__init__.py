"""The proof on a GPU: kernels, front-end, engines and PyTorch forms."""
