"""Where the backbone that comes with moascope agrees with its teacher, and where it fails.

    python benchmarks/cellmobile.py --weights mobilenet_v2....h5 --simulated FOLDER --picture nn.png

Three tables: how similar its features are to the teacher's (linear CKA, Kornblith et al., ICML
2019) on the planes of each instrument; how far features move when a plane is turned, flipped,
brightened, blurred or magnified, relative to the distance between two planes of one instrument;
and which mechanism the nearest neighbours of bbbc021's fields have, among fields of other
compounds. The picture shows such neighbours. No real image is part of the project.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moascope.distillation.planes import collect_planes
from moascope.features.backbones import find_weights, open_backbone
from moascope.features.embed import features_of_screen
from moascope.features.turns import averaged
from moascope.params import Embed, Prepare
from moascope.screen.tables import read_screen

SIDE = 128
CROPS = 400
NAMES = ("cellmobile", "mobilenetv2", "morphology")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--simulated", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="of the teacher, MobileNetV2")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    settings = {name: Embed(backbone=name, weights=str(arguments.weights), turns=1)
                for name in NAMES}
    see = {name: open_backbone(name, find_weights(name, embed), embed.precision, 1, SIDE).planes
           for name, embed in settings.items()}
    likeness(see, arguments)
    see |= {f"cellmobile, {turns} turns": averaged(see["cellmobile"], turns) for turns in (4, 8)}
    movement(see, arguments)
    neighbours(settings, arguments)


def crops_of(folder: Path, seed: int = 0) -> np.ndarray:
    """Native crops, uint8 [n, 128, 128]; two per plane overlap by chance at most."""
    planes = collect_planes([folder], 600, seed)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(planes.pixels), size=CROPS)
    crops = []
    for plane in (planes.pixels[i] for i in chosen):
        top, left = (generator.integers(length - SIDE + 1) for length in plane.shape)
        crops.append(plane[top : top + SIDE, left : left + SIDE])
    return np.stack(crops)


def likeness(see: dict[str, Callable], arguments: argparse.Namespace) -> None:
    sources = {"bbbc021": arguments.data / "bbbc021", "bbbc013": arguments.data / "bbbc013",
               "simulated, all panels": arguments.simulated}
    sources |= {f"16 bits, {folder.name}": folder
                for folder in sorted((arguments.data / "samples_16bit").iterdir())
                if folder.is_dir()}
    print("| planes | cellmobile and teacher | morphology and teacher |")
    print("|---|---|---|")
    for name, folder in sources.items():
        crops = crops_of(folder)
        teacher = see["mobilenetv2"](crops)
        print(f"| {name} | {alignment(see['cellmobile'](crops), teacher):.3f} "
              f"| {alignment(see['morphology'](crops), teacher):.3f} |", flush=True)


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of standardised features of the same crops."""
    a, b = ((values - values.mean(0)) / np.maximum(values.std(0), 1e-6) for values in (a, b))
    cross = np.square(a.T @ b).sum()
    return float(cross / np.sqrt(np.square(a.T @ a).sum() * np.square(b.T @ b).sum()))


def magnified(crops: np.ndarray, factor: float) -> np.ndarray:
    from PIL import Image

    inner = round(SIDE / factor)
    start = (SIDE - inner) // 2
    return np.stack([np.asarray(Image.fromarray(crop[start : start + inner, start : start + inner])
                                .resize((SIDE, SIDE), Image.Resampling.BILINEAR))
                     for crop in crops])


def blurred(crops: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(crop, 1.5) for crop in crops])


def scaled(gain: float, offset: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda crops: np.clip(np.rint(crops * gain + offset), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a quarter turn": lambda crops: np.ascontiguousarray(np.rot90(crops, axes=(1, 2))),
    "a flip": lambda crops: np.ascontiguousarray(crops[:, :, ::-1]),
    "gain 0.8": scaled(0.8, 0),
    "gain 1.25, clipped at 255": scaled(1.25, 0),
    "offset of 10 grey values": scaled(1, 10),
    "4 bits in place of 8": lambda crops: crops // 16 * 16,
    "blur of 1.5 px": blurred,
    "1.25 times magnified": lambda crops: magnified(crops, 1.25),
    "twice magnified": lambda crops: magnified(crops, 2),
}


def movement(see: dict[str, Callable], arguments: argparse.Namespace) -> None:
    crops = crops_of(arguments.data / "bbbc021", seed=1)
    print("\n| bbbc021, a crop and the same crop after | " + " | ".join(see) + " |")
    print("|---" * (1 + len(see)) + "|")
    before = {name: look(crops) for name, look in see.items()}
    for change, apply in CHANGES.items():
        changed = apply(crops)
        distances = [f"{moved(before[name], look(changed)):.2f}" for name, look in see.items()]
        print(f"| {change} | {' | '.join(distances)} |", flush=True)


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """Median distance between a crop and its changed version, relative to that of two crops."""
    scale = np.maximum(before.std(0), 1e-6)
    between = np.linalg.norm((before - np.roll(before, 1, axis=0)) / scale, axis=1)
    return float(np.median(np.linalg.norm((before - after) / scale, axis=1)) / np.median(between))


def neighbours(settings: dict[str, Embed], arguments: argparse.Namespace) -> None:
    screen = read_screen(arguments.data / "bbbc021")
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, embed in settings.items():
            table = features_of_screen(screen, Prepare(), embed, Path(folder))
            known = table.meta.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"])
            known = known.merge(screen.annotations, on="Metadata_Compound", how="left")
            found = nearest(np.nan_to_num(table.X), known["Metadata_Compound"].to_numpy(str))
            moa = known["Metadata_MoA"].fillna("").to_numpy(str)
            compounds = known.groupby("Metadata_MoA")["Metadata_Compound"].nunique()
            asked = sorted(compounds.index[(compounds > 1) & (compounds.index != "")])
            shares[name] = {term: float((moa[found[moa == term]] == term).mean()) for term in asked}
            if name == "cellmobile" and arguments.picture:
                draw(screen, known, found, asked, arguments.picture)
    print("\n| share of the 5 nearest fields of other compounds with the same mechanism "
          "| cellmobile | teacher | morphology |")
    print("|---|---|---|---|")
    for term in asked:
        print(f"| {term} | " + " | ".join(f"{shares[name][term]:.2f}" for name in NAMES) + " |")


def nearest(features: np.ndarray, compound: np.ndarray, count: int = 5) -> np.ndarray:
    """Rows nearest to each row, by cosine, among those of other compounds; int [n, count]."""
    standardised = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    unit = standardised / np.linalg.norm(standardised, axis=1, keepdims=True)
    likeness = unit @ unit.T
    likeness[compound[:, None] == compound[None, :]] = -np.inf
    return np.argsort(-likeness, axis=1)[:, :count]


def draw(screen, known, found: np.ndarray, asked: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from moascope.screen.planes import read_site

    sites = screen.sites.set_index(["Metadata_Plate", "Metadata_Well", "Metadata_Site"])

    def tile(row: int) -> np.ndarray:
        key = tuple(known.loc[row, ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]])
        site = dict(zip(["Metadata_Plate", "Metadata_Well", "Metadata_Site"], key, strict=True))
        planes = read_site(screen, site | sites.loc[key].to_dict(), screen.channels)[:3]
        height, width = (length // 2 - SIDE for length in planes.shape[1:])
        cut = planes[:, height : height + 2 * SIDE, width : width + 2 * SIDE].astype(float)
        top = np.percentile(cut, 99.8, axis=(1, 2), keepdims=True)
        return np.clip(cut / np.maximum(top, 1), 0, 1)[::-1].transpose(1, 2, 0)

    columns = found.shape[1] + 1
    figure, axes = pyplot.subplots(len(asked), columns, squeeze=False,
                                   figsize=(2 * columns, 2.25 * len(asked)), layout="constrained")
    moa, compound = (known[column].fillna("").to_numpy(str)
                     for column in ("Metadata_MoA", "Metadata_Compound"))
    for line, term in zip(axes, asked, strict=True):
        row = np.flatnonzero(moa == term)[0]
        for place, other in enumerate([row, *found[row]]):
            line[place].imshow(tile(other))
            line[place].set_xticks([])
            line[place].set_yticks([])
            right = moa[other] == term
            title = compound[other] if right else f"{compound[other]}\n({moa[other] or 'DMSO'})"
            line[place].set_title(title, fontsize=9, color="black" if right else "firebrick")
        line[0].set_ylabel(term, fontsize=9)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
