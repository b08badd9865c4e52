import numpy as np
import pytest

from moascope.learning.head import predict_logits, save_head
from moascope.learning.training import _sum_of_squares, train_heads
from moascope.params import Head

LOGISTIC = Head(layers=0, learning_rate=0.03, l2=1e-3, epochs=40, dropout=0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, 12)) * 3 + 100).astype(np.float32)
    label = (features[:, 0] + features[:, 1] - 200 + rng.normal(size=300) > 0).astype(int)
    return features, label


def fit_heads(*given, **settings):
    """The heads as they are when their training has ended."""
    *_, heads = train_heads(*given, **settings)
    return heads


def masks(count, rows=300):
    weights = np.ones((count, rows), np.float32)
    for k in range(count):
        weights[k, k::count] = 0
    return weights


@pytest.mark.parametrize("layers,dropout", [(0, 0), (2, 0), (2, 0.3)])
def test_folds_trained_together_are_the_folds_trained_alone(data, layers, dropout):
    features, label = data
    head = Head(layers=layers, width=8, dropout=dropout, epochs=10, learning_rate=0.01,
                activation="gelu")
    weights = masks(3)
    # A row that no head sees is left out; keep one everywhere so that the batches are the same.
    weights[:, 0] = 1
    weights[:, :3] = 1
    together = predict_logits(fit_heads(features, label, weights, 2, head, batch_size=1000),
                              features)
    for k in range(3):
        faint = np.maximum(weights[k : k + 1], 1e-12)
        alone = predict_logits(fit_heads(features, label, faint, 2, head, batch_size=1000),
                               features)
        np.testing.assert_allclose(together[k], alone[0], atol=2e-3)


def test_what_a_head_may_not_see_does_not_change_it(data):
    features, label = data
    weights = masks(5)
    hidden = weights[2] == 0
    other, flipped = features.copy(), label.copy()
    other[hidden] += 50
    flipped[hidden] = 1 - flipped[hidden]
    head = Head(layers=1, width=8, epochs=5)
    one = fit_heads(features, label, weights, 2, head, batch_size=32)
    two = fit_heads(other, flipped, weights, 2, head, batch_size=32)
    np.testing.assert_allclose(one.kernels[0][2], two.kernels[0][2], atol=1e-5)
    assert np.abs(one.kernels[0][1] - two.kernels[0][1]).max() > 1e-3


def test_the_logistic_head_is_as_good_as_scikit_learns(data):
    from sklearn.linear_model import LogisticRegression

    features, label = data
    train = np.arange(300) % 3 > 0
    heads = fit_heads(features, label, train[None].astype(np.float32), 2, LOGISTIC, batch_size=32)
    ours = predict_logits(heads, features[~train])[0].argmax(1) == label[~train]
    model = LogisticRegression().fit((features[train] - 100) / 3, label[train])
    theirs = model.predict((features[~train] - 100) / 3) == label[~train]
    assert ours.mean() >= theirs.mean() - 0.02


def test_one_seed_gives_one_result_and_another_gives_another(data):
    features, label = data
    head = Head(layers=1, width=8, dropout=0.5, epochs=3)
    first, again, other = (
        fit_heads(features, label, masks(2), 2, head, batch_size=64, seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.kernels[0], again.kernels[0])
    assert np.abs(first.kernels[0] - other.kernels[0]).max() > 1e-3


def test_dropout_is_used_in_training(data):
    features, label = data
    heads = [
        fit_heads(features, label, masks(2), 2,
                  Head(layers=1, width=8, dropout=dropout, epochs=3, l2=0))
        for dropout in (0.0, 0.6)
    ]
    assert heads[1].loss[-1] > heads[0].loss[-1]


def test_the_gradient_of_the_penalty_is_right_as_every_backend_asks_for_it():
    kernel = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    value, gradient = _sum_of_squares(kernel)
    assert float(value) == 14.25
    assert np.array_equal(gradient(0.5), kernel)
    assert np.array_equal(gradient(kernel, upstream=0.5), kernel)


def test_l2_shrinks_the_weights(data):
    features, label = data
    small, large = (
        np.square(fit_heads(features, label, masks(2), 2, LOGISTIC.model_copy(update={"l2": l2})
                            ).kernels[0]).sum()
        for l2 in (1e-5, 1.0)
    )
    assert large < 0.2 * small


def test_labels_may_differ_between_heads(data):
    features, label = data
    weights = np.ones((2, 300), np.float32)
    labels = np.stack([label, 1 - label])
    logits = predict_logits(fit_heads(features, labels, weights, 2, LOGISTIC), features)
    assert (logits[0].argmax(1) == label).mean() > 0.8
    assert (logits[1].argmax(1) == label).mean() < 0.2


def test_stops_show_training_under_way_and_the_loss_falls(data):
    features, label = data
    stops = [(int(heads.epochs[-1]), float(heads.loss[-1]))
             for heads in train_heads(features, label, masks(2), 2, LOGISTIC, watch_every=10)]
    assert [epoch for epoch, _ in stops] == [10, 20, 30, 40]
    assert stops[-1][1] < stops[0][1]


def test_trainings_that_take_turns_end_as_if_each_had_been_alone(data):
    features, label = data
    head = Head(layers=1, width=8, dropout=0.4, epochs=6)
    given = [(features, label, masks(2), 2, head), (features[::-1], label, masks(2), 2, head)]
    in_turns = list(zip(*(train_heads(*one, watch_every=2) for one in given), strict=True))[-1]
    for one, heads in zip(given, in_turns, strict=True):
        alone = fit_heads(*one, watch_every=2)
        np.testing.assert_array_equal(heads.kernels[0], alone.kernels[0])
        np.testing.assert_array_equal(heads.kernels[1], alone.kernels[1])


def test_a_second_training_of_a_shape_is_not_traced_again(data, monkeypatch):
    from keras import ops

    traced = []
    log_softmax = ops.log_softmax
    monkeypatch.setattr(ops, "log_softmax", lambda x: traced.append(1) or log_softmax(x))
    features, label = data
    one = Head(layers=1, width=11, epochs=2)
    fit_heads(features, label, masks(2), 2, one, batch_size=32)
    first = len(traced)
    assert first
    other = Head(layers=1, width=11, epochs=3, learning_rate=0.1, dropout=0.5, l2=0.3,
                 label_smoothing=0.1)
    # Nor with a few rows fewer: another panel, or the wells that passed on another day.
    fit_heads(features[:290], label[:290], masks(2)[:, :290], 2, other, batch_size=32)
    assert len(traced) == first


def test_a_head_predicts_its_own_rows_alone(data):
    features, label = data
    heads = fit_heads(features, label, masks(10), 2, Head(layers=1, width=8, epochs=2))
    asked = masks(10) == 0
    asked[:, 7] = False
    asked[3:5, 8] = True
    every, some = predict_logits(heads, features), predict_logits(heads, features, asked)
    np.testing.assert_allclose(some[asked], every[asked], atol=1e-5)
    assert not some[~asked].any()


def test_a_training_that_is_given_up_costs_only_the_epochs_that_were_looked_at(data, monkeypatch):
    from moascope.quiet import import_keras

    calls = []
    fit = import_keras().Model.fit
    monkeypatch.setattr("keras.Model.fit", lambda *a, **k: calls.append(1) or fit(*a, **k))
    features, label = data
    for _ in train_heads(features, label, masks(2), 2, LOGISTIC, watch_every=10):
        break
    assert len(calls) == 1


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh"])
def test_the_exported_keras_model_says_the_same(data, activation, tmp_path):
    from moascope.quiet import import_keras

    features, label = data
    heads = fit_heads(features, label, masks(2), 2,
                      Head(layers=1, width=8, epochs=1, activation=activation))
    save_head(heads, 1, tmp_path / "head.keras")
    model = import_keras().saving.load_model(tmp_path / "head.keras", safe_mode=True)
    np.testing.assert_allclose(model.predict(features, verbose=0),
                               predict_logits(heads, features)[1], atol=1e-4)


def test_a_head_that_sees_nothing_is_an_error(data):
    features, label = data
    with pytest.raises(ValueError, match="positive weight"):
        fit_heads(features, label, np.stack([np.ones(300), np.zeros(300)]), 2, LOGISTIC)
