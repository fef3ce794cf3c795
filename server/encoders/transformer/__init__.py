"""Transformers: tokenizer.json, long texts, and the encoder of a bundle. The network runs in ONNX Runtime."""
