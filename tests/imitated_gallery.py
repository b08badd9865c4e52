"""A small tree like those of the Cell Painting Gallery in the tests' bucket, and tables about it.

    tree = jump_tree(bucket, tmp_path)             # cpg0016-jump: tables of JUMP
    params = tree.params(tmp_path, plates=["BR00117001"])
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from buckets import NAME, Bucket
from helpers import make_screen

from moascope.params import Params
from moascope.params_file import parse_params
from moascope.screen.tables import read_screen

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
SOURCE, BATCH = "source_4", "2021_04_26_Batch1"
DMSO = "JCP2022_033924"
CODES = ("JCP2022_000001", "JCP2022_000002", "JCP2022_037716", "JCP2022_000004")
BLOCKS = ("AAAAAAAAAAAAAA", "BBBBBBBBBBBBBB", "CCCCCCCCCCCCCC", "DDDDDDDDDDDDDD")
DRUGS = ("!a comment of the Hub\n!another, with the caf\xe9's accent\n"
         "pert_iname\tclinical_phase\tmoa\ttarget\n"
         "alphadrug\tLaunched\thistamine receptor antagonist\tHRH1\n"
         "betadrug\tLaunched\ttubulin inhibitor|microtubule destabilizer\tTUBB\n")
SAMPLES = ("!a comment\nbroad_id\tpert_iname\tInChIKey\n"
           f"BRD-A\talphadrug\t{BLOCKS[0]}-UHFFFAOYSA-N\n"
           # Another salt: the first block alone is the same.
           f"BRD-B\tbetadrug\t{BLOCKS[1]}-SALTSALTSA-M\n")


@dataclass
class Tree:
    """What was put into the bucket, and the section `gallery` that reads it."""

    screen: Path
    planes: list[str]
    section: dict = field(default_factory=dict)

    def params(self, tmp_path: Path, acquire: dict | None = None, **selection: object) -> Params:
        """Parameters with the source `gallery` and a target that three compounds allow."""
        return parse_params({
            "target": "moa",
            "acquire": {"source": "gallery", "downloads": str(tmp_path / "downloads"),
                        **(acquire or {})},
            "gallery": {**self.section, **selection}})


def jump_tree(bucket: Bucket, tmp_path: Path, *, plates: int = 1, wells: int = 6, sites: int = 1,
              table: str = "load_data_with_illum.parquet", size: int = 64) -> Tree:
    """Put plates BR00117001, ... of one batch into the bucket, as in cpg0016-jump.

    Tables of plates, wells and compounds are in the bucket too; that of compounds and the Hub's
    are on disk.
    """
    screen = make_screen(tmp_path / "there", plates=plates, wells=wells, sites=sites,
                         channels=CHANNELS, size=size)
    read = read_screen(screen)
    home = f"cpg0016-jump/{SOURCE}"
    bucket.clear("cpg0016-jump/")
    rows, planes = [], []
    for number in range(1, plates + 1):
        plate = f"BR0011700{number}"
        images = f"{home}/images/{BATCH}/images/{plate}__2021-05-02T16_02_51-Measurement1/Images"
        bucket.put_folder(screen / f"images/Plate{number}", images)
        of_plate = read.sites[read.sites["Metadata_Plate"] == f"Plate{number}"]
        load_data = pd.DataFrame({
            "Metadata_Source": SOURCE, "Metadata_Batch": BATCH, "Metadata_Plate": plate,
            "Metadata_Well": of_plate["Metadata_Well"],
            "Metadata_Site": of_plate["Metadata_Site"].astype(str)})
        for channel in CHANNELS:
            names = of_plate[f"FileName_{channel}"].str.rpartition("/")[2]
            load_data[f"FileName_Orig{channel}"] = names
            load_data[f"PathName_Orig{channel}"] = f"s3://{NAME}/{images}/"
            load_data[f"FileName_Illum{channel}"] = f"{plate}_Illum{channel}.npy"
            load_data[f"PathName_Illum{channel}"] = f"s3://{NAME}/{home}/images/{BATCH}/illum/"
            planes += [f"{images}/{name}" for name in names]
        load_data["FileName_OrigBrightfield"] = load_data["FileName_OrigDNA"]
        load_data["PathName_OrigBrightfield"] = load_data["PathName_OrigDNA"]
        put_table(bucket, f"{home}/workspace/load_data_csv/{BATCH}/{plate}/{table}", load_data,
                  tmp_path)
        layout = read.layout[read.layout["Metadata_Plate"] == f"Plate{number}"]
        rows += [{"Metadata_Source": SOURCE, "Metadata_Plate": plate, "Metadata_Well": well,
                  "Metadata_JCP2022": DMSO if name == "DMSO" else CODES[int(name[1:])]}
                 for well, name in zip(layout["Metadata_Well"], layout["Metadata_Compound"],
                                       strict=True)]
    tables = {
        "plate": pd.DataFrame([
            {"Metadata_Source": SOURCE, "Metadata_Batch": BATCH,
             "Metadata_Plate": f"BR0011700{number}", "Metadata_PlateType": "COMPOUND"}
            for number in range(1, plates + 1)]),
        "well": pd.DataFrame(rows),
        "compound": pd.DataFrame({
            "Metadata_JCP2022": [*CODES, DMSO],
            "Metadata_InChIKey": [*(f"{block}-UHFFFAOYSA-N" for block in BLOCKS), ""],
            "Metadata_SMILES": ["C", "CC", "CCC", "CCCC", "C[S+](C)[O-]"]})}
    section: dict[str, object] = {"bucket": f"s3://{NAME}"}
    for name in ("plate", "well"):
        section[f"{name}_table"] = put_table(bucket, f"tables/{name}.csv.gz", tables[name],
                                             tmp_path)
    tables["compound"].to_csv(tmp_path / "compound.csv.gz", index=False)
    section["compound_table"] = str(tmp_path / "compound.csv.gz")
    for name, text in (("drugs.txt", DRUGS), ("samples.txt", SAMPLES)):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    section["mechanisms"] = [str(tmp_path / "drugs.txt"), str(tmp_path / "samples.txt")]
    bucket.forget()
    return Tree(screen, planes, section)


def put_table(bucket: Bucket, key: str, table: pd.DataFrame, tmp_path: Path) -> str:
    """Store a table in the format that its name says, and give its address."""
    if key.endswith(".parquet"):
        table.to_parquet(tmp_path / "table.parquet")
        content = (tmp_path / "table.parquet").read_bytes()
    else:
        content = table.to_csv(index=False, sep="\t" if ".t" in key else ",").encode()
        content = gzip.compress(content, mtime=0) if key.endswith(".gz") else content
    return bucket.put(key, content)
