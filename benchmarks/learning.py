"""Whether the learner earns its place: the study's choice next to simple models, task by task.

    python benchmarks/learning.py --seeds 100 101 --real ../shared/data --projects FOLDER:moa

Tasks are GPCR and the strong mechanisms of the simulated screen `teaching`, seed by seed, and where
the real images are at hand every mechanism at once of BBBC021 and the dose of BBBC013. A project in
which `embed` has run brings its screen, of images or of profiles, with the target that is named.
Nothing is promoted here, so real screens keep no compound back. The selected model is what the
pipeline registers: the study of params.yaml, nested, scored on compounds that it never saw.
References see the same features and folds and nothing is tuned for them. The oracle is a simple
model of the true knobs of the wells. Seconds are those of study and nested training on one machine,
one after the other.

Prints a Markdown table, row by row, and under it the mean over the tasks of the selected model
minus the best reference of each, and minus every single reference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from moascope.evaluation.oracle import evaluate_oracle
from moascope.evaluation.references import REFERENCES, evaluate_references
from moascope.features.embed import embed_plates
from moascope.features.table import load_features, load_quality
from moascope.learning.dealing import deal
from moascope.learning.examples import Examples
from moascope.learning.final import chosen_heads, out_of_fold_table
from moascope.learning.joining import join_examples
from moascope.learning.nested import Inner, fold_pairs, nested
from moascope.learning.space import settled
from moascope.learning.storage import open_study
from moascope.learning.study import study_name, top_up
from moascope.learning.trials import candidates, choices, choose
from moascope.metrics import macro_average_precision
from moascope.params import Params
from moascope.params_file import load_params
from moascope.pixels.prepare import prepare_plates
from moascope.screen.manifest import make_manifest
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.sources.simulated import simulate
from moascope.sources.simulated.compounds import STRONG
from moascope.work.processes import default_jobs

# Screen -> its targets, of those with real images.
REAL = {"bbbc021": ("moa",), "bbbc013": ("PI3K inhibitor",)}


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes
    ----------
    screen, target : str
    null : float
        Mean average precision of random lists.
    selected : float
        Of the study's choice, nested.
    references : dict
        Reference -> average precision.
    oracle : float or None
    choice : str
        What the final head is, and why.
    seconds : float
        Of study and nested training.
    """

    screen: str
    target: str
    null: float
    selected: float
    references: dict[str, float]
    oracle: float | None
    choice: str
    seconds: float

    def line(self) -> str:
        values = [f"{self.null:.3f}", f"{self.selected:.3f}",
                  *(f"{self.references[kind]:.3f}" for kind in REFERENCES),
                  "–" if self.oracle is None else f"{self.oracle:.3f}"]
        return (f"| {self.screen} | {self.target} | " + " | ".join(values)
                + f" | {self.choice} | {self.seconds:.0f} |")


def embedded_screen(screen: Path, work: Path, params: Params) -> Path:
    """Prepare and embed a screen folder into `work/embed`; what is there already stays."""
    read = read_screen(screen)
    manifest = make_manifest(read)
    digests = dict(zip(manifest["FileName"], manifest["SHA256"], strict=True))
    prepare_plates(read, work / "prepare", params.prepare, default_jobs(), digests)
    embed_plates(work / "prepare", work / "embed", params.embed, default_jobs())
    return work / "embed"


def dealt_examples(screen: Path, embedded: Path, target: str, params: Params) -> Examples:
    """The sites of a screen with the folds of a target, as `split` deals them."""
    read, quality = read_screen(screen), load_quality(embedded)
    dealt = deal(label_screen(read, target), quality[quality["QC_Pass"]], params.split,
                 params.seed)
    return join_examples(load_features(embedded), read.layout, dealt)


def score_task(screen: Path, embedded: Path, target: str, params: Params, name: str) -> Row:
    """Study, nested training, references and oracle of one task."""
    examples = dealt_examples(screen, embedded, target, params)
    question = examples.question
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    start = time.perf_counter()
    settings = settled(params)
    with tempfile.TemporaryDirectory() as scratch:
        study = open_study(str(Path(scratch) / "study.journal"),
                           study_name(examples, settings.space, params.train, target),
                           settings, seed=params.seed)
        top_up(study, examples, settings, params.train, params.seed, lambda *_: None)
        tuned = Path(scratch) / "tuned.yaml"
        tuned.write_text(yaml.safe_dump(choices(study, outer)))
        head, heads = chosen_heads(tuned, params)
        why = choose(candidates(study), outer).why
    logits, calibrations = nested(examples, heads, params.train, params.seed)
    seconds = time.perf_counter() - start
    table = out_of_fold_table(examples, "compound", logits, calibrations["compound"])
    label = question.index(table["Label"])
    keep = question.counts(label)
    shown = table.loc[keep, question.probabilities].to_numpy(float)
    ap = float(macro_average_precision(label[keep], shown, question.present(label[keep])))
    found = evaluate_references(table, examples, params.evaluate, params.seed)
    oracle = evaluate_oracle(examples, screen, {"average_precision": ap, "prevalence": 0.0},
                             params.evaluate, params.seed)
    choice = (f"{why}: {head.layers} layers, {head.level}, {head.normalisation}, "
              f"L2 {head.l2:.2g}, {head.epochs} epochs")
    return Row(name, target, found[REFERENCES[0]]["null_mean"], ap,
               {kind: found[kind]["average_precision"] for kind in REFERENCES},
               oracle.get("average_precision"), choice, seconds)


def summary(rows: list[Row]) -> list[str]:
    """What the table says: the selected model against the references, mean over the tasks."""
    selected = np.array([row.selected for row in rows])
    best = np.array([max(row.references.values()) for row in rows])
    said = [f"selected minus the best reference of each task: {np.mean(selected - best):+.3f} "
            f"(mean of {len(rows)} tasks)"]
    for kind in REFERENCES:
        own = np.array([row.references[kind] for row in rows])
        said.append(f"selected minus {kind}: {np.mean(selected - own):+.3f}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="*", default=[100])
    parser.add_argument("--targets", nargs="*", default=["gpcr", *STRONG])
    parser.add_argument("--real", type=Path, help="folder with bbbc021/ and bbbc013/")
    parser.add_argument("--projects", nargs="*", default=[], metavar="FOLDER:TARGET")
    parser.add_argument("--keep", type=Path, help="folder for the screens, which then stay")
    arguments = parser.parse_args()
    params = load_params(arguments.params, arguments.set)
    kept = params.model_copy(update={"split": params.split.model_copy(update={"holdout": 0.0})})
    header = ["screen", "target", "random", "selected", *REFERENCES, "oracle", "choice", "seconds"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.keep or Path(scratch)
        tasks = []
        for seed in arguments.seeds:
            name = f"{params.simulated.preset} {seed}"
            own = work / name.replace(" ", "-")
            if not (own / "acquire/layout.csv").is_file():
                simulate(params.simulated, seed, own / "acquire", default_jobs())
            tasks += [(name, own / "acquire", own, target, params)
                      for target in arguments.targets]
        for name, targets in REAL.items() if arguments.real else ():
            if (arguments.real / name).is_dir():
                tasks += [(name, arguments.real / name, work / name, target, kept)
                          for target in targets]
        for name, screen, own, target, used in tasks:
            rows.append(score_task(screen, embedded_screen(screen, own, used), target, used, name))
            print(rows[-1].line(), flush=True)
        for project in arguments.projects:
            folder, _, target = project.rpartition(":")
            data = Path(folder) / "data"
            rows.append(score_task(data / "acquire", data / "embed", target, kept,
                                   Path(folder).name))
            print(rows[-1].line(), flush=True)
    print("\n" + "\n".join(f"- {line}" for line in summary(rows)))


if __name__ == "__main__":
    main()
