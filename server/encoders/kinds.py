"""The kinds of encoders that a bundle may have."""

from typing import Annotated

from pydantic import Field

from server.encoders.cnn.encoder import CnnSpec
from server.encoders.ngrams.encoder import NgramsSpec
from server.encoders.transformer.encoder import TransformerSpec

AnySpec = Annotated[CnnSpec | NgramsSpec | TransformerSpec, Field(discriminator="kind")]
