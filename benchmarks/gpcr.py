"""GPCR ligands against all other compounds on real profiles, next to what structure alone tells.

    python benchmarks/gpcr.py --data FOLDER

COMAS: reference compounds of a Cell Painting screen in U2OS cells that were active, described by 15
numbers: their similarity to 13 clusters of mechanisms, induction and relative cell count (Pahl,
Ziegler et al. 2023). A compound is an InChIKey block of its parent; its measurements are averaged.
Labels: the words of the known activity, read by the project's own table of terms; what that calls
unknown is left out. Extremely randomised trees, untuned, 5 folds x 2, by compound and by
Bemis-Murcko scaffold. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.annotation.decide import decide
from moascope.chemistry.descriptors import (
    PROPERTIES,
    fingerprints,
    is_cationic_amphiphilic,
    properties,
)
from moascope.chemistry.families import family_of
from moascope.chemistry.structures import parent_smiles
from moascope.evaluation.chemistry import LEARNER, mean_rank
from moascope.evaluation.references import out_of_fold_scores
from moascope.learning.dealing import FAMILY, assign_folds
from moascope.metrics import (
    average_precision,
    bootstrap_weights,
    interval,
    null_mean,
    paired_difference,
)

TABLE = "profiles/comas/ds_refs_sim_to_clusters_webapp.tsv.gz"
SUMMARIES = ("Cluster_High", "Cluster_Sim")   # the name and the value of the highest similarity
FOLDS, REPEATS, BOOTSTRAPS, SEED = 5, 2, 1000, 0
FEWEST = 10   # compounds of a family
PHENOTYPE, SIMPLE, PRINT = "phenotype", "six properties", "fingerprint"
SETS = ((PHENOTYPE,), (SIMPLE,), (SIMPLE, PHENOTYPE), (PRINT,), (PRINT, SIMPLE),
        (PRINT, PHENOTYPE))


@dataclass(frozen=True)
class Compounds:
    """Compounds whose activity is known.

    Attributes
    ----------
    table : DataFrame, [n]
        `Metadata_Group` (InChIKey block), `SMILES`, `Label` ("gpcr" or "not"), `Action`,
        `Families` (tuple of str).
    inputs : dict of str to ndarray, [n, d]
        What a model may see.
    read : str
        How many compounds were read and how they were labelled.
    """

    table: pd.DataFrame
    inputs: dict[str, np.ndarray]
    read: str

    @property
    def hit(self) -> np.ndarray:
        """bool, [n]."""
        return (self.table["Label"] == "gpcr").to_numpy()


def read_compounds(path: Path) -> Compounds:
    """One row per compound: the mean of its measurements, its label and its structure."""
    from rdkit import Chem

    rows = pd.read_csv(path, sep="\t")
    clusters = [name for name in rows if name.startswith("Cluster_") and name not in SUMMARIES]
    measured = [*clusters, "Induction", "Rel_Cell_Count"]
    rows["SMILES"] = rows["Smiles"].map(parent_smiles)
    rows = rows[rows["SMILES"] != ""]
    key = {text: Chem.MolToInchiKey(Chem.MolFromSmiles(text)).split("-")[0]
           for text in rows["SMILES"].unique()}
    rows["Metadata_Group"] = rows["SMILES"].map(key)
    said = rows.drop_duplicates(["Metadata_Group", "Known_Act"])
    words = said["Known_Act"].fillna("").groupby(said["Metadata_Group"]).agg("|".join)
    read = {group: decide(text) for group, text in words.items()}
    table = rows.groupby("Metadata_Group", as_index=False).agg(
        {"SMILES": "first", **dict.fromkeys(measured, "mean")})
    decision = table["Metadata_Group"].map(read)
    gpcr = decision.map(lambda one: one.gpcr)
    counts = gpcr.value_counts()
    table["Label"] = gpcr.map({"yes": "gpcr", "no": "not"})
    table["Action"] = decision.map(lambda one: one.action)
    table["Families"] = decision.map(lambda one: tuple(name for name, _ in one.families))
    table = table[table["Label"].notna()].reset_index(drop=True)
    smiles = table["SMILES"].tolist()
    return Compounds(table, {PHENOTYPE: table[measured].to_numpy(float),
                             SIMPLE: properties(smiles), PRINT: fingerprints(smiles)},
                     f"{len(words)} compounds: {counts['yes']} GPCR, {counts['no']} not, "
                     f"{counts['unknown']} unknown and left out")


def dealt(compounds: Compounds, group: str) -> np.ndarray:
    """The folds of each repeat, [repeats, n], by compound or by scaffold."""
    table = compounds.table[["Metadata_Group", "Label"]]
    if group != "compound":
        table = table.assign(**{FAMILY: family_of(
            compounds.table["SMILES"].to_numpy(object), group, table["Metadata_Group"].tolist())})
    folds = assign_folds(table, FOLDS, REPEATS, 0.0, SEED)
    return np.stack([folds[f"Fold_{repeat}"] for repeat in range(REPEATS)])


def all_scores(compounds: Compounds, folds: np.ndarray) -> dict[str, np.ndarray]:
    """Out-of-fold scores of being a GPCR ligand, by what the model sees."""
    label = compounds.hit.astype(int)
    both = {}
    for names in SETS:
        seen = np.hstack([compounds.inputs[name] for name in names])
        both[" + ".join(names)] = out_of_fold_scores(LEARNER, seen, label, folds, 2, SEED)
    both["mean rank of fingerprint and phenotype"] = mean_rank(both[PRINT], both[PHENOTYPE])
    shuffled = np.random.default_rng(SEED).permutation(label)
    found = {name: score[:, 1] for name, score in both.items()}
    # Against the labels that it learnt from, a shuffled model must be at chance.
    own = out_of_fold_scores(LEARNER, compounds.inputs[PRINT], shuffled, folds, 2, SEED)[:, 1]
    print(f"fingerprint, shuffled labels: {average_precision(shuffled == 1, own):.3f}")
    return found


def cell(hit: np.ndarray, score: np.ndarray, part: np.ndarray | None = None) -> str:
    """Average precision with its interval over compounds."""
    part = np.ones(len(hit), bool) if part is None else part
    hit, score = hit[part], score[part]
    low, high = interval(average_precision(
        hit, score, bootstrap_weights(np.arange(len(hit)), BOOTSTRAPS, SEED)))
    return f"{average_precision(hit, score):.2f} [{low:.2f}, {high:.2f}]"


def gain(hit: np.ndarray, one: np.ndarray, other: np.ndarray,
         part: np.ndarray | None = None) -> str:
    """Difference of two average precisions, paired over compounds."""
    part = np.ones(len(hit), bool) if part is None else part
    hit, one, other = hit[part], one[part], other[part]
    value, low, high = paired_difference(
        lambda w: average_precision(hit, one, w), lambda w: average_precision(hit, other, w),
        np.arange(len(hit)), BOOTSTRAPS, SEED)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def print_whole(compounds: Compounds, by: dict[str, dict[str, np.ndarray]]) -> None:
    """What each input reaches over all compounds, by compound and by scaffold."""
    hit = compounds.hit
    print(f"\n| seen by the model | {' | '.join(f'folds by {name}' for name in by)} |\n"
          f"|---|{'---|' * len(by)}")
    for name in next(iter(by.values())):
        print(f"| {name} | {' | '.join(cell(hit, found[name]) for found in by.values())} |")
    for other, than in ((f"{SIMPLE} + {PHENOTYPE}", SIMPLE), (f"{PRINT} + {PHENOTYPE}", PRINT),
                        ("mean rank of fingerprint and phenotype", PRINT)):
        print(f"| {other}, minus {than} | "
              + " | ".join(gain(hit, found[other], found[than]) for found in by.values()) + " |")
    chance = f"{null_mean(len(hit), int(hit.sum())):.2f}"
    print(f"| a random list | {' | '.join([chance] * len(by))} |")


def print_parts(compounds: Compounds, found: dict[str, np.ndarray]) -> None:
    """The same within parts of the compounds, and by family and action against all others."""
    hit = compounds.hit
    simple = compounds.inputs[SIMPLE]
    amine = simple[:, PROPERTIES.index("basic amines")] > 0
    amphiphilic = is_cationic_amphiphilic(simple)
    shown = (PHENOTYPE, SIMPLE, f"{SIMPLE} + {PHENOTYPE}", PRINT, f"{PRINT} + {PHENOTYPE}")
    parts: dict[str, np.ndarray] = {
        "with a basic amine": amine, "without": ~amine,
        "cationic amphiphilic": amphiphilic, "all others": ~amphiphilic}
    actions = compounds.table["Action"].str.split("|")
    for action in ("agonist", "antagonist"):
        parts[f"hits: {action}s"] = ~hit | actions.map(lambda own, a=action: own == [a]).to_numpy()
    families = compounds.table["Families"].explode().value_counts()
    for family in families.index[families >= FEWEST]:
        parts[f"hits: {family}"] = ~hit | compounds.table["Families"].map(
            lambda own, f=family: f in own).to_numpy()
    print(f"\n| compounds | n | GPCR | random list | {' | '.join(shown)} |\n"
          f"|---|---|---|---|{'---|' * len(shown)}")
    for name, part in parts.items():
        n, hits = int(part.sum()), int((hit & part).sum())
        print(f"| {name} | {n:,} | {hits} | {null_mean(n, hits):.2f} | "
              + " | ".join(cell(hit, found[one], part) for one in shown) + " |")
    print(f"\nof GPCR ligands and of others, share with a basic amine: {amine[hit].mean():.0%}, "
          f"{amine[~hit].mean():.0%}; cationic amphiphilic: {amphiphilic[hit].mean():.0%}, "
          f"{amphiphilic[~hit].mean():.0%}; phenotype added to six properties within amines: "
          + gain(hit, found[f"{SIMPLE} + {PHENOTYPE}"], found[SIMPLE], amine))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with profiles/comas")
    path = parser.parse_args().data / TABLE
    if not path.is_file():
        raise SystemExit(f"{path} is not there: it is ds_refs_sim_to_clusters_webapp.tsv of the "
                         "repository mpimp-comas/2022_pahl_ziegler_subprofiles (MIT).")
    compounds = read_compounds(path)
    print(compounds.read)
    by = {group: all_scores(compounds, dealt(compounds, group))
          for group in ("compound", "scaffold")}
    print_whole(compounds, by)
    print("\nFolds by scaffold:")
    print_parts(compounds, by["scaffold"])


if __name__ == "__main__":
    main()
