"""Acceptance tests of the simulated screen: does it leak where it should, and only there?

Usage: python benchmarks/simulated_acceptance.py [--seeds 0 1 2] [--compounds 320] [--jobs 2]

Draws a screen per seed, with and without signal, describes every field by about 60 quick
features of its own, none of them moascope's, and prints a Markdown table: each test with its value
per seed, its bar and whether it is met. The features are normalised per plate by median and MAD of
the DMSO wells. It tests the simulator and says nothing about biology.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.params import Simulated
from moascope.sources.simulated import simulate

CHANNELS = ("Nucleus", "Green", "Red")
FOLDS = 5
BOOTSTRAPS = 300
PERMUTATIONS = 400


def field_features(planes: np.ndarray) -> dict[str, float]:
    """Describe a field by intensities, granularity, co-localisation and nuclei.

    Parameters
    ----------
    planes : ndarray, shape (3, height, width)
        Nucleus, Green, Red.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    planes = planes.astype(np.float32)
    found: dict[str, float] = {}
    for name, plane in zip(CHANNELS, planes, strict=True):
        found[f"{name}_mean"] = plane.mean()
        found[f"{name}_sd"] = np.log(plane.std() + 1)
        ordered = np.sort(plane, axis=None)
        quantiles = ordered[(np.array((5, 25, 50, 75, 95, 99)) * (len(ordered) - 1)) // 100]
        found |= {f"{name}_q{i}": np.log(value + 1) for i, value in enumerate(quantiles)}
        smooth = [plane]
        for sigma in (1.0, 1.7, 3.5, 7.0):
            smooth.append(ndimage.gaussian_filter(smooth[-1], sigma, truncate=2.5))
        for step in range(4):
            band = smooth[step] - smooth[step + 1]
            found[f"{name}_band{step}"] = np.log(band.std() + 1)
            found[f"{name}_skew{step}"] = (band * band * band).mean() / (band.std() ** 3 + 1e-6)
    flat = planes.reshape(3, -1)
    found |= dict(zip(("NG", "NR", "GR"), np.corrcoef(flat)[np.triu_indices(3, 1)], strict=True))
    mask = ndimage.binary_opening(planes[0] > threshold_otsu(planes[0]))
    labels, number = ndimage.label(mask)
    found["nuclei"] = float(number)
    if number:
        index = np.arange(1, number + 1)
        area = ndimage.sum_labels(mask, labels, index)
        found["nuclear_area"], found["nuclear_area_sd"] = np.median(area), area.std()
        found["nuclear_intensity"] = planes[0][mask].mean()
        found["nuclear_texture"] = np.median(ndimage.standard_deviation(planes[0], labels, index))
        edge = mask ^ ndimage.binary_erosion(mask)
        found["nuclear_outline"] = edge.sum() / np.sqrt(area).sum()
        distance = ndimage.distance_transform_edt(~mask)
        ring, far = (distance > 0) & (distance <= 5), (distance > 5) & (distance <= 10)
        for name, plane in zip(CHANNELS[1:], planes[1:], strict=True):
            inside, around, beyond = (np.median(plane[where]) if where.any() else 0.0
                                      for where in (mask, ring, far))
            found[f"{name}_in_ring"] = np.log((inside + 1) / (around + 1))
            found[f"{name}_ring_far"] = np.log((around + 1) / (beyond + 1))
    return found


def plate_features(folder: Path, sites: pd.DataFrame) -> pd.DataFrame:
    from tifffile import imread

    rows = [field_features(np.stack([imread(folder / getattr(site, f"FileName_{channel}"))
                                     for channel in CHANNELS]))
            for site in sites.itertuples()]
    return pd.DataFrame(rows, index=sites.index).fillna(0.0)


def normalise(features: pd.DataFrame, plates: pd.Series, control: pd.Series) -> pd.DataFrame:
    """Centre and scale by median and MAD of a plate's DMSO; values beyond 8 are cut."""
    done = []
    for _, part in features.groupby(plates):
        dmso = part[control.loc[part.index]]
        centre = dmso.median()
        spread = 1.4826 * (dmso - centre).abs().median()
        done.append(((part - centre) / spread.clip(lower=1e-3)).clip(-8, 8))
    return pd.concat(done).loc[features.index]


def sphere(values: np.ndarray, reference: np.ndarray, shrink: float = 0.3) -> np.ndarray:
    """Whiten by the covariance of `reference`, shrunk towards its mean variance (ZCA)."""
    covariance = np.cov(reference, rowvar=False)
    covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / len(
        covariance) * np.eye(len(covariance))
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    whitening = (eigenvectors / np.sqrt(eigenvalues)) @ eigenvectors.T
    return (values - reference.mean(axis=0)) @ whitening


def forest_scores(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesClassifier

    scores = np.zeros(len(y))
    for fold in np.unique(folds):
        model = ExtraTreesClassifier(80, min_samples_leaf=2, n_jobs=2,
                                     class_weight="balanced", random_state=0)
        model.fit(x[folds != fold], y[folds != fold])
        scores[folds == fold] = model.predict_proba(x[folds == fold])[:, 1]
    return scores


def logistic_scores(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros(len(y))
    for fold in np.unique(folds):
        inside = folds != fold
        centre, spread = x[inside].mean(axis=0), x[inside].std(axis=0) + 1e-6
        model = LogisticRegression(C=0.03, class_weight="balanced", max_iter=2000)
        model.fit((x[inside] - centre) / spread, y[inside])
        scores[~inside] = model.decision_function((x[~inside] - centre) / spread)
    return scores


def random_folds(number: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(number) % FOLDS


def grouped_folds(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.zeros(len(y), dtype=int)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(y, y, groups)):
        folds[test] = fold
    return folds


def compound_ap(scores: np.ndarray, y: np.ndarray, compounds: np.ndarray) -> pd.DataFrame:
    """Average the scores of a compound; columns score and label."""
    return pd.DataFrame({"score": scores, "label": y}).groupby(compounds).mean()


def average_precision(table: pd.DataFrame) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(table["label"] > 0.5, table["score"]))


def ranked_precision(ranked: np.ndarray) -> float:
    """Average precision of labels sorted by falling score, without ties."""
    hits = np.flatnonzero(ranked)
    return float((np.arange(1, len(hits) + 1) / (hits + 1)).mean())


def interval(table: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    ranked = table.sort_values("score", ascending=False)["label"].to_numpy() > 0.5
    samples = [np.sort(rng.integers(len(ranked), size=len(ranked))) for _ in range(BOOTSTRAPS)]
    drawn = [ranked_precision(ranked[sample]) for sample in samples if ranked[sample].any()]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def null_band(table: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    drawn = [ranked_precision(rng.permutation(table["label"].to_numpy() > 0.5))
             for _ in range(PERMUTATIONS)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def likeness(profiles: np.ndarray, plates: np.ndarray, positions: np.ndarray) -> float:
    """How much more DMSO wells of one position correlate across plates than others do.

    They share only their place on the plate.
    """
    correlation = np.corrcoef(profiles)
    apart = plates[:, None] != plates[None]
    same = (positions[:, None] == positions[None]) & apart
    return float(correlation[same].mean() - correlation[apart & ~same].mean())


def measure(seed: int, params: Simulated, jobs: int) -> dict[str, object]:
    """Draw one screen and measure what the acceptance tests need."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "screen"
        start = time.perf_counter()
        simulate(params, seed, folder, jobs)
        drawn = time.perf_counter() - start
        sites = pd.read_csv(folder / "load_data.csv", dtype=str, keep_default_na=False)
        layout = pd.read_csv(folder / "layout.csv", keep_default_na=False)
        notes = pd.read_csv(folder / "annotations.csv", dtype=str, keep_default_na=False)
        truth = pd.read_csv(folder / "truth" / "compounds.csv", keep_default_na=False)
        faults = pd.read_csv(folder / "truth" / "faults.csv", dtype=str)
        parts = [part for _, part in sites.groupby("Metadata_Plate")]
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            features = pd.concat(pool.map(plate_features, [folder] * len(parts), parts))
    features = features.loc[sites.index]
    table = sites.merge(layout, on=["Metadata_Plate", "Metadata_Well"], how="left").merge(
        notes, on="Metadata_Compound", how="left").merge(
        truth[["Metadata_Compound", "kind"]], on="Metadata_Compound", how="left")
    broken = pd.MultiIndex.from_frame(faults.iloc[:, :3]).unique()
    whole = ~pd.MultiIndex.from_frame(
        sites[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]]).isin(broken)
    control = (table["Metadata_Control"] == "negative") & whole
    x = normalise(features, table["Metadata_Plate"], control)

    told = (whole & table["gpcr"].isin(["yes", "no"])).to_numpy()
    compounds = table.loc[told, "Metadata_Compound"].to_numpy()
    groups = table.loc[told, "Metadata_InChIKey"].str[:14].to_numpy()
    y = (table.loc[told, "gpcr"] == "yes").to_numpy().astype(int)
    values = x[told].to_numpy()
    found: dict[str, object] = {"sites": len(sites), "seconds": drawn}

    by_group = pd.Series(y, index=groups).groupby(level=0).max()
    permuted = pd.Series(rng.permutation(by_group.to_numpy()), index=by_group.index)
    y_permuted = permuted.loc[groups].to_numpy()
    scattered, grouped = random_folds(len(y), rng), grouped_folds(y, groups, seed)
    wanted = [("grouped", y, grouped)]
    if params.signal:
        wanted += [("random", y, scattered), ("permuted random", y_permuted, scattered),
                   ("permuted grouped", y_permuted, grouped_folds(y_permuted, groups, seed))]
    for name, labels, folds in wanted:
        result = compound_ap(forest_scores(values, labels, folds), labels, compounds)
        found[name] = average_precision(result)
        found[f"{name} interval"] = interval(result, rng)
        found[f"{name} null"] = null_band(result, rng)
        found[f"{name} prevalence"] = float(result["label"].mean())

    place = np.stack([
        pd.factorize(table.loc[told, "Metadata_Plate"].str.extract(r"-(M\d+)-")[0])[0],
        table.loc[told, "Metadata_Well"].map(lambda well: ord(well[0])),
        table.loc[told, "Metadata_Well"].str[1:].astype(int)], axis=1).astype(float)
    for name, folds in (("position random", scattered), ("position grouped", grouped)):
        if not params.signal:
            continue
        result = compound_ap(forest_scores(place, y, folds), y, compounds)
        found[name], found[f"{name} null"] = average_precision(result), null_band(result, rng)

    wells = x.assign(plate=table["Metadata_Plate"], well=table["Metadata_Well"])[whole].groupby(
        ["plate", "well"]).mean()
    panels = table.loc[told, "Metadata_Panel"].to_numpy()
    profile = pd.concat([x[told][panels == panel].groupby(compounds[panels == panel]).mean()
                         for panel in np.unique(panels)], axis=1).fillna(0.0)
    about = notes.set_index("Metadata_Compound").loc[profile.index]
    keys = about["Metadata_InChIKey"].str[:14].to_numpy()
    strong = truth.loc[truth["kind"] == "strong", "moa"].unique()
    targets = {"any": (about["gpcr"] == "yes"), "agonist": (about["gpcr_action"] == "agonist")}
    targets |= {moa: about["Metadata_MoA"] == moa for moa in strong}
    strong_aps, strong_lifts, strong_tops = [], [], []
    for name, member in targets.items():
        label = member.to_numpy().astype(int)
        if label.sum() < FOLDS:
            continue
        scores = logistic_scores(profile.to_numpy(), label, grouped_folds(label, keys, seed))
        result = pd.DataFrame({"score": scores, "label": label})
        if name in ("any", "agonist"):
            found[f"profile {name}"] = average_precision(result)
            found[f"profile {name} null"] = null_band(result, rng)
            found[f"profile {name} prevalence"] = float(label.mean())
        else:
            strong_aps.append(average_precision(result))
            strong_lifts.append(strong_aps[-1] / label.mean())
            strong_tops.append(null_band(result, rng))
    found["strong"], found["strong lift"] = float(np.mean(strong_aps)), float(np.mean(strong_lifts))
    found["strong above null"] = sum(ap > high for ap, (_, high) in
                                     zip(strong_aps, strong_tops, strict=True))
    found["strong classes"] = len(strong_aps)

    dmso = wells.loc[[key in set(map(tuple, table.loc[
        control, ["Metadata_Plate", "Metadata_Well"]].to_numpy())) for key in wells.index]]
    plates = dmso.index.get_level_values("plate").to_numpy()
    positions = dmso.index.get_level_values("well").to_numpy()
    found["likeness"] = likeness(dmso.to_numpy(), plates, positions)
    found["likeness sphered"] = likeness(
        sphere(dmso.to_numpy(), dmso.to_numpy()), plates, positions)
    return found


def verdicts(real: dict, null: dict) -> list[tuple[str, str, str, bool]]:
    """Compare the measurements with the bars; rows of test, value, bar, met."""
    def with_interval(name: str, key: str = "interval") -> str:
        low, high = real[f"{name} {key}"]
        return f"{real[name]:.3f} [{low:.2f}, {high:.2f}]"

    def inside(found: dict, name: str) -> bool:
        low, high = found[f"{name} null"]
        return low <= found[name] <= high

    disjoint = real["random interval"][0] > real["grouped interval"][1]
    return [
        ("any GPCR, fields split at random", with_interval("random"), "2 x grouped",
         real["random"] >= 2 * real["grouped"]),
        ("any GPCR, compounds held out", with_interval("grouped"), "disjoint from random",
         disjoint),
        ("permuted labels, random", with_interval("permuted random"), "2 x prevalence",
         real["permuted random"] >= 2 * real["permuted random prevalence"]),
        ("permuted labels, held out", with_interval("permuted grouped", "null"), "in null band",
         inside(real, "permuted grouped")),
        ("position only, random", f"{real['position random']:.3f}", "0.9",
         real["position random"] >= 0.9),
        ("position only, held out", with_interval("position grouped", "null"), "in null band",
         inside(real, "position grouped")),
        ("strong mechanisms, profiles, held out",
         f"{real['strong']:.3f} = {real['strong lift']:.1f} x prevalence", "3 x prevalence",
         real["strong lift"] >= 3),
        ("any GPCR, profiles, held out", with_interval("profile any", "null"), "above null band",
         real["profile any"] > real["profile any null"][1]),
        ("GPCR agonist, profiles, held out", with_interval("profile agonist", "null"),
         "above null band", real["profile agonist"] > real["profile agonist null"][1]),
        ("DMSO of one position alike, sphered",
         f"{real['likeness']:.3f} -> {real['likeness sphered']:.3f}", "less than before",
         real["likeness sphered"] < real["likeness"]),
        ("signal 0: any GPCR, profiles", f"{null['profile any']:.3f} "
         f"[{null['profile any null'][0]:.2f}, {null['profile any null'][1]:.2f}]",
         "in null band", inside(null, "profile any")),
        ("signal 0: any GPCR, fields held out", f"{null['grouped']:.3f} "
         f"[{null['grouped null'][0]:.2f}, {null['grouped null'][1]:.2f}]",
         "in null band", inside(null, "grouped")),
        ("signal 0: strong mechanisms above null",
         f"{null['strong above null']} of {null['strong classes']} ({null['strong']:.3f})",
         "at most 1", null["strong above null"] <= 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--compounds", type=int, default=320)
    parser.add_argument("--panels", nargs="+", default=["A549 ACTB-RAB5A"])
    parser.add_argument("--signal", type=float, default=Simulated().signal)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    columns = []
    for seed in options.seeds:
        found = []
        for signal in (options.signal, 0.0):
            params = Simulated(preset="literature", compounds=options.compounds,
                               panels=tuple(options.panels), signal=signal)
            start = time.perf_counter()
            found.append(measure(seed, params, options.jobs))
            print(f"seed {seed}, signal {signal}: {found[-1]['sites']} fields simulated in "
                  f"{found[-1]['seconds']:.0f} s, total {time.perf_counter() - start:.0f} s, "
                  f"prevalence {found[-1]['grouped prevalence']:.3f}", flush=True)
        columns.append(verdicts(*found))
        for test, value, bar, met in columns[-1]:
            print(f"  {test}: {value} ({bar}) {'met' if met else 'MISSED'}", flush=True)
    print("\n| test | bar | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " |")
    print("|---|---|" + "---|" * len(options.seeds))
    for rows in zip(*columns, strict=True):
        values = " | ".join(f"{value} {'met' if met else '**missed**'}"
                            for _, value, _, met in rows)
        print(f"| {rows[0][0]} | {rows[0][2]} | {values} |")


if __name__ == "__main__":
    main()
