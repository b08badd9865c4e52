"""How quick `moascope explore` is on a screen of idr0088's size.

Usage: python benchmarks/explore.py [--plates 1200] [--compounds 6000] [--requests 200]

Makes the tables of a screen (308 wells of 384 on each plate, two sites a well, three channels) with
random profiles of 256 features, and asks a served page one question after the other. All sites
name the same three planes of 1080 x 1080 pixels. Prints a Markdown table: the time to make the
index, to start from one that is kept, and of each page the median, the 95th percentile and the
mean time of the processor.
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import tifffile

from moascope.exploring.content import Explorer
from moascope.exploring.index import keep_index, load_index
from moascope.exploring.said import Said
from moascope.exploring.serve import explorer_application
from moascope.screen.tables import Screen
from moascope.screen.wells import well_name
from moascope.web.serving import make_server
from moascope.web.site import Site, open_site

CHANNELS = ("Nucleus", "Green", "Red")
WELLS = [well_name(row, column) for row in range(1, 15) for column in range(1, 23)]
FEATURES, SITES = 256, 2


def make_tables(images: Path, plates: int, compounds: int, generator: np.random.Generator
                ) -> tuple[Screen, pd.DataFrame, np.ndarray]:
    """The tables of a screen, and what its wells measure."""
    for channel in CHANNELS:
        tifffile.imwrite(images / f"{channel}.tif",
                         generator.integers(100, 4000, (1080, 1080), np.uint16))
    names = np.repeat([f"1013{number:06d}" for number in range(plates)], len(WELLS))
    wells = np.tile(WELLS, plates)
    drawn = generator.integers(0, compounds, len(names))
    control = np.isin(wells, [name for name in WELLS if name.endswith(("02", "23"))])
    compound = np.where(control, "DMSO", np.char.add("compound-", drawn.astype(str)))
    layout = pd.DataFrame({
        "Metadata_Plate": names, "Metadata_Well": wells, "Metadata_Compound": compound,
        "Metadata_Concentration_uM": np.where(control, np.nan,
                                              generator.choice([0.3, 1, 3, 9], len(names))),
        "Metadata_Control": np.where(control, "negative", "")})
    sites = layout.loc[layout.index.repeat(SITES), ["Metadata_Plate", "Metadata_Well"]].assign(
        Metadata_Site=np.tile([1, 2], len(layout)), Metadata_Panel="",
        Metadata_Batch=lambda table: "batch " + table["Metadata_Plate"].str[-1])
    for channel in CHANNELS:
        sites[f"FileName_{channel}"], sites[f"Frame_{channel}"] = f"{channel}.tif", 0
    every = sorted(set(compound))
    annotations = pd.DataFrame({"Metadata_Compound": every, "Metadata_MoA": [
        f"mechanism {number % 300}" if number % 5 else "" for number in range(len(every))]})
    measured = layout[["Metadata_Plate", "Metadata_Well"]].assign(
        Cells=generator.poisson(80, len(layout)).astype(float),
        Distance=generator.gamma(9, 1 / 9, len(layout)))
    profiles = generator.standard_normal((len(layout), FEATURES), np.float32)
    return (Screen(sites.reset_index(drop=True), layout, annotations, CHANNELS, images), measured,
            profiles)


def ask(site: Site, path: str) -> int:
    """Bytes of an answer, which must be a good one."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    connection.request("GET", path, headers={"Cookie": f"{site.cookie}={site.key}"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return len(content)


def clocked(name: str, work: Callable[[], object]) -> object:
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    print(f"| {name} | {time.perf_counter() - start:.1f} s | | "
          f"{time.process_time() - busy:.1f} s | |", flush=True)
    return result


def measure(plates: int, compounds: int, requests: int, how: str, work: Path) -> None:
    generator = np.random.default_rng(0)
    screen, measured, profiles = make_tables(work, plates, compounds, generator)
    print(f"{plates:,} plates, {len(screen.layout):,} wells, {len(screen.sites):,} sites, "
          f"{len(screen.annotations):,} compounds\n\n"
          "| | median | 95th percentile | of processor | kB |\n"
          "|---|---|---|---|---|")
    clocked(f"index made ({how})", lambda: keep_index(work / "kept", "one", screen, measured,
                                                      profiles, how))
    explorer = clocked("start from a kept index", lambda: Explorer(
        load_index(work / "kept" / "one", work),
        Said({}, {}, {}, {})))
    assert isinstance(explorer, Explorer)
    site = open_site()
    server = make_server(explorer_application(explorer, site), site)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [site.listener]})
    thread.start()

    def plate() -> str:
        return f"1013{generator.integers(plates):06d}"

    def named() -> str:
        return explorer.finder.table["Metadata_Compound"].iloc[
            generator.integers(len(explorer.finder.table))]

    questions: dict[str, Callable[[], str]] = {
        "map": lambda: "/?page=" + str(generator.integers(1, 100)),
        "search": lambda: "/?" + urlencode({"q": f"{generator.integers(100, 999)}"}),
        "filter by mechanism": lambda: "/?" + urlencode(
            {"mechanism": f"mechanism {generator.integers(300)}"}),
        "plate": lambda: f"/plate?plate={plate()}",
        "plate, by distance, with a well": lambda: (
            f"/plate?plate={plate()}&colour=distance&well={generator.choice(WELLS)}"),
        "compound": lambda: "/compound?" + urlencode({"name": named()}),
        "picture, three planes and those of a control": lambda: (
            f"/picture?plate={plate()}&well={generator.choice(WELLS)}&site=1&beside=B02"
            f"&low={generator.integers(1, 40)}"),
        "all compounds as CSV": lambda: "/export.csv"}
    try:
        for name, question in questions.items():
            ask(site, question())
            few = requests if name[:3] not in ("pic", "all") else max(requests // 10, 5)
            took, size, busy = [], [], time.process_time()
            for _ in range(few):
                path = question()
                start = time.perf_counter()
                size.append(ask(site, path))
                took.append(1000 * (time.perf_counter() - start))
            busy = 1000 * (time.process_time() - busy) / few
            print(f"| {name} | {np.median(took):.0f} ms | {np.percentile(took, 95):.0f} ms | "
                  f"{busy:.0f} ms | {np.median(size) / 1000:,.0f} |", flush=True)
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plates", type=int, default=1200)
    parser.add_argument("--compounds", type=int, default=6000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--map", choices=["pca", "umap"], default="pca")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measure(options.plates, options.compounds, options.requests, options.map, Path(work))


if __name__ == "__main__":
    main()
