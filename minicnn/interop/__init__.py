"""Exchange with other libraries: weight files of PyTorch (.pth, .pt) and .safetensors."""

from minicnn.interop.weights import load_weights, read_weights, save_weights

__all__ = ["load_weights", "read_weights", "save_weights"]
