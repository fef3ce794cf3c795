"""Initial word vectors from the training texts: skip-gram with negative sampling, by gensim.

Mikolov et al. (2013), "Distributed Representations of Words and Phrases and their Compositionality". One
thread and a seed: the same texts give the same vectors.
"""

from collections.abc import Callable, Sequence

from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec

from server.arrays import Floats, Ids

PASSES = 5
"""Passes over the texts."""


def word_vectors(
    rows: Sequence[Ids],
    vocabulary: int,
    dimensions: int,
    *,
    seed: int,
    spread: float,
    on_pass: Callable[[], None],
) -> Floats:
    """float32[vocabulary, dimensions] with standard deviation `spread`, from texts as rows of ids; `on_pass`
    is called after each of `PASSES`.
    """

    class Progress(CallbackAny2Vec):  # type: ignore[misc]
        def on_epoch_end(self, _: Word2Vec) -> None:
            on_pass()

    # gensim's tokens are strings; a first sentence with every id once gives each of them a vector
    sentences = [[str(i) for i in range(vocabulary)], *([str(i) for i in row] for row in rows)]
    model = Word2Vec(
        sentences,
        vector_size=dimensions,
        window=5,
        min_count=1,
        sg=1,
        negative=5,
        sample=1e-4,
        epochs=PASSES,
        seed=seed,
        workers=1,
        callbacks=[Progress()],
    )
    vectors: Floats = model.wv[[str(i) for i in range(vocabulary)]]
    vectors *= spread / vectors.std()
    return vectors
