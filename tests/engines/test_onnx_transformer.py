"""How a batch is divided into calls: short calls, next to no padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.arrays import Ids
from server.engines.onnx_transformer import GROUP_TOKENS, SHORTEST, groups

lengths = st.lists(st.integers(1, 600), min_size=1, max_size=80).map(lambda each: np.array(each, np.int32))


@given(lengths)
def test_every_text_is_in_one_group(lengths: Ids) -> None:
    found = [index for group in groups(lengths, GROUP_TOKENS) for index in group.tolist()]
    assert sorted(found) == list(range(len(lengths)))


@given(lengths)
def test_a_group_is_small_and_hardly_padded(lengths: Ids) -> None:
    for group in groups(lengths, GROUP_TOKENS):
        of_group = lengths[group]
        padded = of_group.max() * len(group)
        assert padded <= GROUP_TOKENS or len(group) == 1
        assert of_group.min() >= SHORTEST * of_group.max()
        assert padded <= of_group.sum() / SHORTEST


@given(lengths)
def test_without_tokens_every_text_is_alone(lengths: Ids) -> None:
    assert [len(group) for group in groups(lengths, 0)] == [1] * len(lengths)
