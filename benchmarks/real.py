"""Real profiles with published figures beside them; nothing is fitted on labels.

    python benchmarks/real.py --data ../shared/data

BBBC021, per-well means of CellProfiler's features: is the mechanism of a treatment that of its
nearest neighbour? NSC (Ljosa 2013): among treatments of other compounds. NSCB (Ando 2017): among
treatments of other compounds that share no batch with it, for treatments whose mechanism is there.
The first row is the default; the others change one thing. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.importing.profiles.run import import_profiles
from moascope.learning.examples import Examples
from moascope.learning.joining import with_layout
from moascope.params import Head
from moascope.screen.columns import WELL
from moascope.screen.question import Question

DEFAULT = {"selection": "distinct", "normalisation": "moderated+sphere"}
"""What the field does, in its order (pycytominer: selection of features by names, missing values,
variance and correlation; robust deviations from the plate's controls; sphering by them), with
moderated spreads, because each plate has six controls."""

WAYS = {
    "default for profiles": DEFAULT,
    "near-duplicates kept": {**DEFAULT, "selection": "measured"},
    "all features": {**DEFAULT, "selection": "none"},
    "not sphered": {**DEFAULT, "normalisation": "moderated"},
    "spread of each plate alone": {**DEFAULT, "normalisation": "plate+sphere"},
    "the same, not sphered, all features": {"selection": "none", "normalisation": "plate"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True,
                        help="folder with profiles/ and tables/")
    data = parser.parse_args().data
    wells = read_wells(data)
    print("| BBBC021 well means | NSC | NSCB | features |\n|---|---|---|---|")
    for name, way in WAYS.items():
        found = score(wells, Head(**way))
        print(f"| {name} | {found['NSC']:.3f} ({found['treatments']}) | {found['NSCB']:.3f} "
              f"({found['in other batches']}) | {found['features']} |", flush=True)


def read_wells(data: Path) -> Examples:
    """BBBC021's wells, imported as a user imports them; every treated well is a unit."""
    tables, profiles = data / "tables", data / "profiles" / "bbbc021"
    with tempfile.TemporaryDirectory() as folder:
        imported = import_profiles(
            [profiles], folder, layout=tables / "BBBC021_v1_image.csv",
            annotations=tables / "BBBC021_v1_moa.csv")
        rows = pd.read_parquet(Path(folder) / "profiles.parquet")
    layout = imported.layout.assign(
        Metadata_Concentration_uM=pd.to_numeric(imported.layout["Metadata_Concentration_uM"]))
    meta = with_layout(rows[WELL].assign(Metadata_Site=1, Metadata_Batch="", Metadata_Panel=""),
                       layout)
    # BBBC021's weeks are its batches.
    meta["Metadata_Batch"] = meta["Metadata_Plate"].str.partition("_")[0]
    moa = imported.annotations.set_index("Metadata_Compound")["Metadata_MoA"]
    meta["Metadata_MoA"] = meta["Metadata_Compound"].map(moa).fillna("")
    treated = (meta["Metadata_Control"] != "negative").to_numpy()
    return Examples(
        meta=meta, features=rows[list(imported.features)].to_numpy(np.float32),
        names=imported.features, group=np.where(treated, np.cumsum(treated) - 1, -1),
        groups=pd.DataFrame({"Label": meta["Metadata_MoA"][treated]}),
        question=Question("moa", tuple(sorted(set(meta["Metadata_MoA"][treated]))), False))


def score(wells: Examples, head: Head) -> dict[str, float]:
    """NSC and NSCB of the treatments, each the mean of its wells, by cosine similarity."""
    seen = wells.seen_by(head)
    treated = seen.meta["Metadata_Control"] != "negative"
    key = seen.meta.loc[treated, ["Metadata_Compound", "Metadata_Concentration_uM"]]
    code = key.groupby(list(key), sort=True).ngroup().to_numpy()
    X = np.stack([seen.features[treated][code == at].mean(axis=0) for at in range(code.max() + 1)])
    meta = seen.meta[treated]
    first = [int(np.flatnonzero(code == at)[0]) for at in range(len(X))]
    compound = meta["Metadata_Compound"].to_numpy()[first]
    moa = meta["Metadata_MoA"].to_numpy()[first]
    batches = [set(meta["Metadata_Batch"][code == at]) for at in range(len(X))]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    alike = unit @ unit.T
    other = compound[:, None] != compound
    apart = np.array([[not (one & two) for two in batches] for one in batches])
    right = moa[_nearest(alike, other)] == moa
    possible = (other & apart & (moa[:, None] == moa)).any(axis=1)
    right_apart = (moa[_nearest(alike, other & apart)] == moa)[possible]
    return {"NSC": right.mean(), "NSCB": right_apart.mean(), "treatments": len(X),
            "in other batches": int(possible.sum()), "features": len(seen.names)}


def _nearest(alike: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The most similar treatment among those that are allowed, of each."""
    return np.where(allowed, alike, -np.inf).argmax(axis=1)


if __name__ == "__main__":
    main()
