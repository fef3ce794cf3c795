"""Features of a base bundle's network, kept by text: between two rounds only new texts are run."""

from collections.abc import Sequence

import numpy as np

from export.encoders.base import Numbers
from export.encoders.cnn import FittedCnn
from export.encoders.transformer import FittedTransformer
from export.training.blocks import CnnBlock, DenseBlock, TransformerBlock
from server.bundle import Bundle
from server.encoders.transformer.encoder import transformer_of

MOST = 100_000
"""Texts that are kept: 154 MB of 384 features."""


class CachedBlock(DenseBlock):
    """`values` float64[texts, features] of `network`, which has no head."""

    def __init__(self, network: FittedCnn | FittedTransformer, values: Numbers) -> None:
        self.network = network
        self.values = values


class FeatureCache:
    """The features of one bundle's transformer, or else of its CNN; of another bundle it begins again."""

    def __init__(self) -> None:
        self._version = ""
        self._network: FittedCnn | FittedTransformer | None = None
        self._found: dict[str, Numbers] = {}

    def block(self, bundle: Bundle, texts: Sequence[str]) -> CachedBlock:
        """Features of at least one text. Raises BadBundle if the bundle has no such network."""
        if self._version != bundle.version or len(self._found) > MOST:
            self._version, self._found = bundle.version, {}
        missing = [text for text in dict.fromkeys(texts) if text not in self._found]
        if missing or self._network is None:
            self._compute(bundle, missing or texts[:1])
        network = self._network
        assert network is not None
        return CachedBlock(network, np.stack([self._found[text] for text in texts]))

    def _compute(self, bundle: Bundle, texts: Sequence[str]) -> None:
        transformer = transformer_of(bundle.encoders)
        block: DenseBlock
        if transformer is not None:
            no_head = np.zeros((transformer.spec.features, 1), dtype=np.float32)
            block = TransformerBlock(FittedTransformer.of(bundle, no_head), texts)
        else:
            block = CnnBlock(bundle, texts)
        self._network = block.network
        self._found |= dict(zip(texts, block.values, strict=True))
