"""Networks in formats that other programs run, each checked against torch."""

from compress.export.onnx import Exported, export_onnx, write_onnx

__all__ = ["Exported", "export_onnx", "write_onnx"]
