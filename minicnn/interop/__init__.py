"""Exchange with other libraries: weight files of PyTorch and .safetensors, ONNX networks.

`minicnn.interop.sklearn` has a classifier for scikit-learn and `minicnn.interop.tensorboard` a
callback for TensorBoard; each needs the extra of its name, as ONNX needs "onnx".
"""

from minicnn.interop.onnx_export import export_onnx
from minicnn.interop.onnx_import import import_onnx
from minicnn.interop.weights import load_weights, read_weights, save_weights

__all__ = ["export_onnx", "import_onnx", "load_weights", "read_weights", "save_weights"]
