"""Encoders: text → token ids → their part of the logits. A bundle has one or more, under one head."""
