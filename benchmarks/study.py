"""What a study of many heads costs: folds as one model, compared with one fit per fold.

    python benchmarks/study.py --trials 100

A synthetic table of 10,000 sites and 1,280 features of 500 compounds, and 800 sites of negative
controls, on 20 plates; one compound in eight is a hit. The study is the one of params.yaml (its
space and pruner, batches of 512), through `learning.study.top_up`: a trial trains ten networks
(each pair of five folds left out) and scores them six times. The references, on heads that it drew:

- Keras as usual: a new `Sequential` and a `fit` per fold, five per trial, nothing pruned, one
  score at the end of each;
- scikit-learn: `LogisticRegression` and `MLPClassifier`, five fits per trial.

Unlike the study, both choose by the folds that they would report. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import string
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.learning.dealing import assign_folds
from moascope.learning.examples import Examples
from moascope.learning.storage import open_study
from moascope.learning.study import top_up
from moascope.learning.trials import candidates, ended_trials
from moascope.metrics import average_precision
from moascope.params import Head
from moascope.params_file import load_params
from moascope.quiet import import_keras
from moascope.screen.question import Question

PLATES, CONTROLS = 20, 40
CLASSES = ("not_t", "t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", nargs="*", default=["train.batch_size=512"],
                        metavar="SECTION.NAME=VALUE")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=1_280)
    parser.add_argument("--compounds", type=int, default=500)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2,
                        help="trials to repeat in the other ways; 0: none")
    arguments = parser.parse_args()
    params = load_params(arguments.params, arguments.set)
    examples = made_up(arguments.rows, arguments.features, arguments.compounds, arguments.folds,
                       arguments.repeats)
    tune = params.tune.model_copy(update={"trials": arguments.trials})
    # Waking TensorFlow is no part of any of the three.
    import_keras()

    with tempfile.TemporaryDirectory() as folder:
        study = open_study(str(Path(folder) / "study.journal"), "benchmark", tune)
        start, worked = time.perf_counter(), time.process_time()
        top_up(study, examples, tune, params.train, params.seed, lambda study, trial: None)
        ours, worked = time.perf_counter() - start, time.process_time() - worked
        ended = ended_trials(study)
        epochs = [trial.params.get("epochs", Head().epochs) for trial in ended]
        trained = {trial.number: 0 for trial in ended}
        for one in candidates(study):
            trained[one.trial] = max(trained[one.trial], one.epochs)
        pruned = sum(trial.state.name == "PRUNED" for trial in ended)
        share = sum(trained.values()) / sum(epochs)
        each = pd.DataFrame([{
            "layers": trial.params.get("layers", 0), "width": trial.params.get("width", 0),
            "epochs": trained[trial.number], "s": trial.duration.total_seconds(),
        } for trial in ended])
        best = study.best_value

    print(f"{arguments.rows:,} sites x {arguments.features:,} features, {arguments.folds} folds x "
          f"{arguments.repeats}, batches of {params.train.batch_size}; {os.cpu_count()} cores, "
          f"load {os.getloadavg()[1]:.1f}; processor time of the study {worked / 60:.1f} min\n")
    rows = [(f"this study ({pruned} of {len(ended)} pruned, {share:.0%} of the epochs; best "
             f"{best:.3f})", ours, len(ended), 1.0)]
    drawn = [Head(**trial.params) for trial in
             ended[:: max(1, len(ended) // max(1, arguments.rounds))][: arguments.rounds]]
    for name, fit in (("Keras, one fit per fold", fit_keras),
                      ("scikit-learn, LogisticRegression per fold", fit_logistic),
                      ("scikit-learn, MLPClassifier per fold", fit_perceptron)):
        seconds = [timed(fit, examples, head, params.train.batch_size) for head in drawn]
        if seconds:
            a_trial = float(np.mean(seconds))
            rows.append((f"{name} (measured on {len(drawn)}, scaled)", a_trial * len(ended),
                         len(ended), a_trial * len(ended) / ours))
    print("| | time | trials | s per trial | times the study's |\n|---|---|---|---|---|")
    for name, seconds, count, ratio in rows:
        print(f"| {name} | {seconds / 60:.1f} min | {count} | {seconds / count:.1f} "
              f"| {ratio:.1f} |", flush=True)
    print(f"\nA hundred trials at that pace: {ours / len(ended) * 100 / 60:.1f} min (computed).\n")
    print("| layers | width | trials | epochs, mean | s, mean |\n|---|---|---|---|---|")
    each.loc[each["layers"] == 0, "width"] = 0
    for (layers, width), own in each.groupby(["layers", "width"]):
        print(f"| {layers} | {width or ''} | {len(own)} | {own['epochs'].mean():.0f} "
              f"| {own['s'].mean():.1f} |")


def made_up(rows: int, features: int, compounds: int, folds: int, repeats: int) -> Examples:
    """A screen whose hits differ a little, where wells of one compound are alike."""
    generator = np.random.default_rng(0)
    hit = np.arange(compounds) % 8 == 0
    groups = pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(compounds)],
        "Metadata_Compound": [f"C{i}" for i in range(compounds)],
        "Label": np.where(hit, CLASSES[1], CLASSES[0]),
        "Metadata_MoA": np.where(hit, "a", "b"),
    })
    groups = assign_folds(groups, folds, repeats, 0.0, seed=0)
    group = np.concatenate([np.arange(rows) % compounds, np.full(PLATES * CONTROLS, -1)])
    own = generator.normal(size=(compounds, features)).astype(np.float32)
    own[hit, : features // 20] += 0.5
    table = generator.normal(size=(len(group), features)).astype(np.float32)
    table[group >= 0] += 0.7 * own[group[group >= 0]]
    place = np.arange(len(group))
    treated = group >= 0
    plate = np.where(treated, place // compounds % PLATES, place % PLATES)
    # A plate of 1,536 wells: each compound has one of its own, and controls have the rest.
    well = np.where(treated, group, compounds + (place - rows) // PLATES)
    row_names = [*string.ascii_uppercase, *(f"A{letter}" for letter in "ABCDEF")]
    meta = pd.DataFrame({
        "Metadata_Plate": [f"P{i:02d}" for i in plate],
        "Metadata_Well": [f"{row_names[i // 48]}{i % 48 + 1:02d}" for i in well],
        "Metadata_Site": place.astype(str),
        "Metadata_Batch": "1", "Metadata_Panel": "A",
        "Metadata_Compound": np.where(treated, [f"C{i}" for i in group], "DMSO"),
        "Metadata_Concentration_uM": 1.0,
        "Metadata_Control": np.where(treated, "", "negative"),
    })
    return Examples(meta, table, tuple(f"M_{i}" for i in range(features)), group, groups,
                    Question("t", CLASSES, True))


def timed(fit: Callable, examples: Examples, head: Head, batch_size: int) -> float:
    """Seconds that one trial takes if every fold is a fit of its own."""
    start = time.perf_counter()
    rows = examples.normalised(head.normalisation)
    rows = rows.take(rows.group >= 0)
    label, fold = rows.label, rows.folds(0)[rows.group]
    scores = []
    for left_out in np.unique(fold):
        held = fold == left_out
        center, scale = rows.features[~held].mean(axis=0), rows.features[~held].std(axis=0)
        X = (rows.features - center) / scale
        said = fit(X[~held], label[~held], X[held], head, batch_size)
        scores.append(average_precision(label[held] == 1, said))
    np.mean(scores)
    return time.perf_counter() - start


def fit_keras(X: np.ndarray, label: np.ndarray, asked: np.ndarray, head: Head,
              batch_size: int) -> np.ndarray:
    keras = import_keras()
    penalty = keras.regularizers.L2(head.l2)
    layers: list = [keras.Input((X.shape[1],))]
    for _ in range(head.layers):
        layers += [keras.layers.Dense(head.width, head.activation, kernel_regularizer=penalty),
                   keras.layers.Dropout(head.dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(1, "sigmoid",
                                                          kernel_regularizer=penalty)])
    model.compile(keras.optimizers.Adam(head.learning_rate),
                  keras.losses.BinaryCrossentropy(label_smoothing=head.label_smoothing))
    rare = (label == 0).sum() / (label == 1).sum()
    model.fit(X, label[:, None], epochs=head.epochs, batch_size=batch_size, verbose=0,
              class_weight={0: 1.0, 1: float(rare)})
    return model.predict(asked, verbose=0)[:, 0]


def fit_logistic(X: np.ndarray, label: np.ndarray, asked: np.ndarray, head: Head,
                 batch_size: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (head.l2 * len(X)), class_weight="balanced", max_iter=300)
    return model.fit(X, label).decision_function(asked)


def fit_perceptron(X: np.ndarray, label: np.ndarray, asked: np.ndarray, head: Head,
                   batch_size: int) -> np.ndarray:
    from sklearn.neural_network import MLPClassifier

    # Its L2 is a share of the batch's mean, it has no dropout, and no other activations.
    model = MLPClassifier((head.width,) * head.layers, alpha=head.l2,
                          learning_rate_init=head.learning_rate, batch_size=batch_size,
                          max_iter=head.epochs, n_iter_no_change=head.epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, label).predict_proba(asked)[:, 1]


if __name__ == "__main__":
    main()
