"""Winner pooling gives the same features and the same gradients as the network itself."""

import torch
from torch import Tensor

from export.cnn import NetworkShape, SentimentCNN
from export.training.winner_pooling import FrozenFeatures, features

SHAPE = NetworkShape(vocabulary=40, dimensions=8, filters=6, widths=(3, 5, 7), classes=2)
LENGTHS = torch.tensor([20, 13, 9, 7])


def network() -> SentimentCNN:
    torch.manual_seed(3)
    return SentimentCNN(SHAPE, pad=1).eval()


def some_ids() -> Tensor:
    return torch.randint(2, 40, (4, 20), generator=torch.Generator().manual_seed(4))


def test_the_logits_are_the_networks() -> None:
    cnn, ids = network(), some_ids()
    expected = cnn(ids, LENGTHS)
    assert torch.allclose(cnn.fc(features(cnn, ids, LENGTHS)), expected, atol=1e-6)
    assert torch.allclose(cnn.fc(FrozenFeatures(cnn)(ids, LENGTHS)), expected, atol=1e-6)


def test_the_gradients_are_the_networks() -> None:
    ids, gradients = some_ids(), []
    for quick in (False, True):
        cnn = network()
        logits = cnn.fc(features(cnn, ids, LENGTHS)) if quick else cnn(ids, LENGTHS)
        logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in cnn.named_parameters()})
    slow, quick_ones = gradients
    assert slow.keys() == quick_ones.keys()
    for name, gradient in slow.items():
        other = quick_ones[name]
        assert gradient is not None
        assert other is not None
        assert gradient.abs().max() > 0
        assert torch.allclose(gradient, other, atol=1e-6), name


def test_ids_after_a_rows_length_are_ignored() -> None:
    cnn, ids = network(), some_ids()
    other = ids.clone()
    other[3, 7:] = 30
    assert torch.equal(features(cnn, ids, LENGTHS), features(cnn, other, LENGTHS))
    assert torch.equal(FrozenFeatures(cnn)(ids, LENGTHS), FrozenFeatures(cnn)(other, LENGTHS))


def test_window_dropout_lets_other_windows_win_but_never_one_past_the_end() -> None:
    cnn, ids = network(), some_ids()
    whole = features(cnn, ids, LENGTHS)
    other = ids.clone()
    other[3, 7:] = 30
    torch.manual_seed(0)
    half = features(cnn, ids, LENGTHS, window_dropout=0.5)
    assert (half <= whole).all()
    assert (half < whole).any()
    assert torch.equal(half[3, 12:], whole[3, 12:])  # seven tokens hold one window of width 7: it always wins
    everything_left_out = [features(cnn, each, LENGTHS, window_dropout=1.0)[3] for each in (ids, other)]
    assert torch.equal(*everything_left_out)


def test_vector_dropout_differs_at_each_call() -> None:
    cnn, ids = network(), some_ids()
    torch.manual_seed(0)
    with torch.no_grad():
        noisy = torch.stack([features(cnn, ids, LENGTHS, vector_dropout=0.5) for _ in range(2)])
    assert not torch.equal(noisy[0], noisy[1])
    assert noisy.isfinite().all()
