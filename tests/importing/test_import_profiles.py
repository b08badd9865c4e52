"""Profiles that other software wrote become a screen's folder, whatever their kind."""

import gzip
import sqlite3

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from moascope.cli.app import app
from moascope.errors import MoascopeError
from moascope.importing.profiles.run import import_profiles
from moascope.importing.profiles.source import Named

FEATURES = ["Cells_AreaShape_Area", "Cells_Intensity_Mean_DNA", "Nuclei_Texture_Contrast"]
COMPOUNDS = ("DMSO", "taxol", "aspirin", "nocodazole")

# It sets an option of pandas that is on anyway.
OLD_OPTION = pytest.mark.filterwarnings("ignore:The 'mode.copy_on_write' option is deprecated")


def wells(plates=("P1", "P2")):
    """Two plates of eight wells: each compound twice, DMSO among them."""
    return pd.DataFrame([
        {"Metadata_Plate": plate, "Metadata_Well": f"{row}{column:02d}",
         "Metadata_pert_iname": COMPOUNDS[column - 1],
         "Metadata_mmoles_per_liter": 0.0 if column == 1 else 10.0,
         "Metadata_moa": "" if column == 1 else f"{COMPOUNDS[column - 1]} way|second way",
         "Metadata_pert_type": "control" if column == 1 else "trt"}
        for plate in plates for row in "AB" for column in range(1, 5)])


def profiles(plates=("P1", "P2"), seed=0):
    table = wells(plates)
    values = np.random.default_rng(seed).normal(size=(len(table), len(FEATURES)))
    return pd.concat([table, pd.DataFrame(values, columns=FEATURES)], axis=1)


def written(out):
    return (pd.read_parquet(out / "profiles.parquet"),
            pd.read_csv(out / "layout.csv", dtype=str, keep_default_na=False),
            pd.read_csv(out / "annotations.csv", dtype=str, keep_default_na=False))


def said(imported):
    return "\n".join(imported.notes)


def refused(*arguments, **options):
    with pytest.raises(MoascopeError) as error:
        import_profiles(*arguments, **options)
    return str(error.value)


@OLD_OPTION
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_what_pycytominer_writes_becomes_a_screen(tmp_path, ending):
    from pycytominer.cyto_utils.output import output

    table = profiles()
    file = tmp_path / f"level3.{ending}"
    output(table, str(file), output_type="parquet" if ending == "parquet" else "csv",
           compression_options={"method": "gzip"} if ending == "csv.gz" else None)
    imported = import_profiles([file], tmp_path / "screen")
    rows, layout, annotations = written(tmp_path / "screen")
    assert list(rows) == ["Metadata_Plate", "Metadata_Well", *FEATURES]
    assert (rows.dtypes[FEATURES] == "float32").all()
    np.testing.assert_allclose(rows[FEATURES], table[FEATURES], rtol=1e-5)
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()
    assert (layout["Metadata_Control"] == "negative").tolist() == (
        table["Metadata_pert_iname"] == "DMSO").tolist()
    assert set(layout["Metadata_Concentration_uM"]) == {"0.0", "10.0"}
    assert annotations["Metadata_MoA"].tolist()[0] == "aspirin way|second way"
    assert "stock's concentration" in said(imported)


@OLD_OPTION
def test_pycytominer_reads_what_was_written(tmp_path):
    import pycytominer

    profiles().to_parquet(tmp_path / "p.parquet")
    import_profiles([tmp_path / "p.parquet"], tmp_path / "screen")
    rows = pd.read_parquet(tmp_path / "screen" / "profiles.parquet")
    kept = pycytominer.feature_select(rows, features=FEATURES, operation="variance_threshold")
    assert set(FEATURES) <= set(kept)


def test_one_file_per_plate_by_a_pattern_gives_one_table_sorted_by_plate(tmp_path):
    for plate in ("P2", "P1"):
        profiles((plate,), seed=int(plate[1])).to_csv(tmp_path / f"{plate}_normalized.csv",
                                                      index=False)
    import_profiles([str(tmp_path / "*_normalized.csv")], tmp_path / "screen")
    rows, layout, _ = written(tmp_path / "screen")
    assert rows["Metadata_Plate"].tolist() == ["P1"] * 8 + ["P2"] * 8
    assert len(layout) == 16


def test_rows_in_any_order_are_sorted_in_row_groups_of_a_size(tmp_path, monkeypatch):
    import pyarrow.parquet

    from moascope.importing.profiles import collect

    table = profiles()
    table.sample(frac=1, random_state=0).to_parquet(tmp_path / "p.parquet")
    monkeypatch.setattr(collect, "_GROUP_BYTES", 4 * 3 * 5)
    import_profiles([tmp_path / "p.parquet"], tmp_path / "screen")
    file = pyarrow.parquet.ParquetFile(tmp_path / "screen" / "profiles.parquet")
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [
        5, 5, 5, 1]
    pd.testing.assert_frame_equal(written(tmp_path / "screen")[0][FEATURES],
                                  table[FEATURES].astype("float32"))


def test_the_command_recognises_profiles_and_says_what_it_assumed(tmp_path):
    profiles().drop(columns="Metadata_pert_type").to_csv(tmp_path / "p.csv.gz", index=False)
    done = CliRunner().invoke(app, ["import", str(tmp_path / "p.csv.gz"), "--out",
                                    str(tmp_path / "screen")])
    assert done.exit_code == 0, done.output
    assert "recognised  a table of profiles, as pycytominer writes them, by p.csv.gz" in done.output
    assert "profiles    16 of 3 features" in done.output
    assert "4 wells of DMSO used" in " ".join(done.output.split())
    assert "embed.backbone=profiles" in done.output


@pytest.mark.parametrize(("marked", "normalisation", "words"), [
    ({"P1": 4, "P2": 4}, "moderated+sphere", None),
    ({"P1": 0, "P2": 4}, "moderated+sphere", "1 plate of 2 without a negative control: P1"),
    ({"P1": 3, "P2": 1}, "none", "No plate has 4 profiles of negative controls (the most is 3)"),
    ({"P1": 0, "P2": 0}, "none", "No well is a negative control, so train.normalisation is none")])
def test_the_command_that_is_printed_normalises_where_a_plate_has_controls(
        tmp_path, marked, normalisation, words):
    table = profiles()
    place = table.groupby("Metadata_Plate").cumcount()
    control = place < table["Metadata_Plate"].map(marked)
    table["Metadata_pert_iname"] = np.where(control, "DMSO", "drug " + place.astype(str))
    table["Metadata_pert_type"] = np.where(control, "control", "trt")
    table.to_csv(tmp_path / "p.csv", index=False)
    done = CliRunner().invoke(app, ["import", str(tmp_path / "p.csv"), "--out",
                                    str(tmp_path / "screen")])
    assert done.exit_code == 0, done.output
    assert f" -S train.normalisation={normalisation} " in done.output
    said = " ".join(done.output.split())
    assert words is None or words in said
    assert ("so train.normalisation is none" in said) == (normalisation == "none")


def test_the_command_names_structures_that_cannot_be_read(tmp_path):
    smiles = {"taxol": "CCO", "aspirin": "C1CC", "nocodazole": "c1ccccc1"}
    table = profiles().assign(Metadata_SMILES=lambda rows: rows["Metadata_pert_iname"].map(smiles))
    table.to_csv(tmp_path / "p.csv", index=False)
    done = CliRunner().invoke(app, ["import", str(tmp_path / "p.csv"), "--out",
                                    str(tmp_path / "screen")])
    assert done.exit_code == 0
    assert ("RDKit cannot read the structure of 1 compound: aspirin ('C1CC')."
            in " ".join(done.output.split()))


def test_a_folder_of_images_is_still_one_of_images(tmp_path):
    (tmp_path / "a_B02_s1_w1.tif").write_bytes(b"x")
    profiles().to_csv(tmp_path / "p.csv", index=False)
    done = CliRunner().invoke(app, ["import", str(tmp_path), "--out", str(tmp_path / "screen")])
    assert "ImageXpress" in done.output


def test_single_cells_of_cytotable_are_averaged_by_well(tmp_path):
    rng = np.random.default_rng(0)
    cells = wells(("P1",)).loc[lambda table: table.index.repeat(5)].reset_index(drop=True)
    cells["Metadata_ImageNumber"] = np.arange(len(cells)) // 5
    cells["Metadata_Cells_Number_Object_Number"] = np.arange(len(cells)) % 5 + 1
    cells[FEATURES] = rng.normal(size=(len(cells), len(FEATURES)))
    cells.to_parquet(tmp_path / "cells.parquet")
    imported = import_profiles([tmp_path / "cells.parquet"], tmp_path / "median")
    import_profiles([tmp_path / "cells.parquet"], tmp_path / "mean", how="mean")
    assert imported.kind == "single cells as CytoTable writes them"
    assert "40 rows averaged to 8 wells by their median" in said(imported)
    by_well = cells.groupby("Metadata_Well")[FEATURES]
    np.testing.assert_allclose(written(tmp_path / "median")[0][FEATURES], by_well.median(),
                               rtol=1e-5)
    np.testing.assert_allclose(written(tmp_path / "mean")[0][FEATURES], by_well.mean(), rtol=1e-5)


def objects(rng, images, name, cells=4):
    count = images * cells
    return pd.DataFrame({
        "ImageNumber": np.repeat(np.arange(1, images + 1), cells),
        "ObjectNumber": np.tile(np.arange(1, cells + 1), images),
        f"{name}_AreaShape_Area": rng.normal(size=count),
        f"{name}_Intensity_Mean_DNA": rng.normal(size=count)})


def image_table():
    """Two images per well of one plate."""
    table = wells(("P1",)).loc[lambda table: table.index.repeat(2)].reset_index(drop=True)
    table["Metadata_Site"] = np.arange(len(table)) % 2 + 1
    table.insert(0, "ImageNumber", np.arange(1, len(table) + 1))
    table["FileName_DNA"] = "a.tif"
    return table


def expected(images, compartments, how):
    keyed = [table.merge(images[["ImageNumber", "Metadata_Well"]]) for table in compartments]
    return [getattr(table.drop(columns=["ImageNumber", "ObjectNumber"]).groupby("Metadata_Well"),
                    how)() for table in keyed]


def test_a_cellprofiler_export_is_averaged_by_well_compartment_by_compartment(tmp_path):
    rng, images = np.random.default_rng(1), image_table()
    cells, nuclei = objects(rng, 16, "Cells"), objects(rng, 16, "Nuclei")
    images.to_csv(tmp_path / "Image.csv", index=False)
    for name, table in (("Cells", cells), ("Nuclei", nuclei)):
        # The spreadsheets name features without their object.
        table.rename(columns=lambda column, name=name: column.removeprefix(f"{name}_")).to_csv(
            tmp_path / f"{name}.csv", index=False)
    imported = import_profiles([tmp_path], tmp_path / "screen", how="mean")
    rows, layout, _ = written(tmp_path / "screen")
    for table in expected(images, (cells, nuclei), "mean"):
        np.testing.assert_allclose(rows[list(table)], table, rtol=1e-5)
    assert rows["Count_Cells"].tolist() == [4.0] * 8
    assert layout["Metadata_Compound"].tolist() == wells(("P1",))["Metadata_pert_iname"].tolist()
    assert imported.kind == "a CellProfiler export"


@pytest.mark.parametrize("names", [("Image", "Cells", "Nuclei"),
                                   ("Per_Image", "Per_Cells", "Per_Nuclei"),
                                   ("BBBC_Image", "BBBC_Cells", "BBBC_Nuclei"),
                                   ("my_per_image", "my_per_cells", "my_per_nuclei")])
def test_sqlite_of_cellprofiler_is_averaged_by_well(tmp_path, names):
    rng, images = np.random.default_rng(2), image_table()
    cells, nuclei = objects(rng, 16, "Cells"), objects(rng, 16, "Nuclei")
    cells.loc[3, "Cells_AreaShape_Area"] = np.nan
    with sqlite3.connect(tmp_path / "plate.sqlite") as database:
        images.rename(columns=lambda column: column if column == "ImageNumber"
                      else f"Image_{column}").to_sql(names[0], database, index=False)
        cells.to_sql(names[1], database, index=False)
        nuclei.to_sql(names[2], database, index=False)
    database.close()
    import_profiles([tmp_path / "plate.sqlite"], tmp_path / "screen")
    rows, layout, _ = written(tmp_path / "screen")
    for table in expected(images, (cells, nuclei), "median"):
        np.testing.assert_allclose(rows[list(table)], table, rtol=1e-5)
    assert {"Count_Cells", "Count_Nuclei"} < set(rows)
    assert layout["Metadata_Control"].tolist().count("negative") == 2


@pytest.mark.parametrize("separator", ["/", "_"])
def test_deepprofiler_is_averaged_by_well_without_unpickling_its_metadata(tmp_path, separator):
    rng, index, cells = np.random.default_rng(3), [], {}
    for well in wells(("P1",)).to_dict("records"):
        for site in (1, 2):
            values = rng.normal(size=(3, 4)).astype(np.float32)
            file = tmp_path / "features" / "P1" / f"{well['Metadata_Well']}{separator}{site}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, features=values, metadata=np.array({"a": 1}, dtype=object),
                                locations=rng.normal(size=(3, 2)))
            cells.setdefault(well["Metadata_Well"], []).append(values)
            index.append({**well, "Metadata_Site": site})
    pd.DataFrame(index).to_csv(tmp_path / "index.csv", index=False)
    imported = import_profiles([tmp_path], tmp_path / "screen", how="mean")
    rows, layout, _ = written(tmp_path / "screen")
    assert imported.kind == "DeepProfiler features"
    np.testing.assert_allclose(rows[[f"DeepProfiler_{at}" for at in range(1, 5)]],
                               [np.concatenate(cells[well]).mean(axis=0) for well in sorted(cells)],
                               rtol=1e-5)
    assert rows["Count_Cells"].tolist() == [3.0] * 8
    assert layout["Metadata_Compound"].tolist()[:2] == ["DMSO", "taxol"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_is_joined_with_its_table_row_by_row(tmp_path, order):
    table = profiles()
    np.save(tmp_path / "x.npy", np.asarray(table[FEATURES], order=order))
    table[list(wells())].to_csv(tmp_path / "rows.csv", index=False)
    import_profiles([tmp_path / "x.npy"], tmp_path / "screen", metadata=tmp_path / "rows.csv")
    rows, layout, _ = written(tmp_path / "screen")
    np.testing.assert_allclose(rows[["Feature_1", "Feature_2", "Feature_3"]], table[FEATURES],
                               rtol=1e-5)
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()


def test_an_archive_of_a_matrix_and_vectors_needs_no_table(tmp_path):
    table = profiles()
    np.savez(tmp_path / "x.npz", embeddings=table[FEATURES].to_numpy(np.float16),
             plate=table["Metadata_Plate"].to_numpy("U"), well=table["Metadata_Well"].to_numpy("U"),
             compound=table["Metadata_pert_iname"].to_numpy("U"),
             names=np.array(FEATURES, "U"))
    import_profiles([tmp_path / "x.npz"], tmp_path / "screen")
    rows, layout, _ = written(tmp_path / "screen")
    np.testing.assert_allclose(rows[FEATURES], table[FEATURES], atol=2e-3)
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()


def test_vectors_in_the_plural_are_columns_and_other_matrices_are_named(tmp_path):
    table = profiles()
    np.savez(tmp_path / "x.npz", features=table[FEATURES], umap=table[FEATURES[:2]],
             plates=table["Metadata_Plate"].to_numpy("U"),
             wells=table["Metadata_Well"].to_numpy("U"),
             compounds=table["Metadata_pert_iname"].to_numpy("U"))
    imported = import_profiles([tmp_path / "x.npz"], tmp_path / "screen")
    layout = written(tmp_path / "screen")[1]
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()
    assert set(layout["Metadata_Plate"]) == {"P1", "P2"}
    assert "x.npz: features is read, and umap not." in said(imported)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_column_of_lists_is_as_many_features(tmp_path, monkeypatch, fixed):
    import pyarrow as pa
    import pyarrow.parquet

    from moascope.importing.profiles import parquet

    # Two rows are read at once, a feature at a time.
    monkeypatch.setattr(parquet, "_WHOLE_GROUP", 1)
    table = profiles()
    values = table[FEATURES].to_numpy(np.float32)
    lists = (pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), len(FEATURES)) if fixed
             else pa.array(values.tolist()))
    about = pa.Table.from_pandas(wells().assign(Cells_Area=range(16)), preserve_index=False)
    pa.parquet.write_table(about.append_column("dino", lists), tmp_path / "p.parquet")
    imported = import_profiles([tmp_path / "p.parquet"], tmp_path / "screen")
    rows = written(tmp_path / "screen")[0]
    assert imported.features == ("Cells_Area", "dino_1", "dino_2", "dino_3")
    np.testing.assert_array_equal(rows[["dino_1", "dino_2", "dino_3"]], values)
    assert rows["Cells_Area"].tolist() == list(range(16))


@pytest.mark.parametrize("longer", [[5], range(8, 16)])
def test_lists_of_different_lengths_are_refused(tmp_path, longer):
    """In one group of rows, and from one group to the next."""
    table = wells().assign(dino=[[1.0] * (1 + (at in longer)) for at in range(16)])
    table.to_parquet(tmp_path / "p.parquet", row_group_size=8)
    assert "'dino' holds lists of different lengths" in refused([tmp_path / "p.parquet"],
                                                                tmp_path / "screen")


def test_the_folders_of_a_partitioned_table_name_its_plates(tmp_path):
    table = profiles()
    for plate, part in table.groupby("Metadata_Plate"):
        folder = tmp_path / "table" / f"Metadata_Plate={plate}"
        folder.mkdir(parents=True)
        part.drop(columns="Metadata_Plate").to_parquet(folder / "part-0.parquet")
    import_profiles([tmp_path / "table"], tmp_path / "screen")
    rows, layout, _ = written(tmp_path / "screen")
    np.testing.assert_allclose(rows[FEATURES], table[FEATURES], rtol=1e-6)
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()


@pytest.mark.parametrize("where", ["layers", "obsm", "nowhere"])
def test_anndata_without_x_is_read_from_its_only_matrix(tmp_path, where):
    anndata = pytest.importorskip("anndata", reason="the extra anndata is not installed")
    table = profiles()
    about = table[list(wells())].astype(object)
    about.index = pd.Index([str(row) for row in about.index], dtype=object)
    about["Metadata_mmoles_per_liter"] = about["Metadata_mmoles_per_liter"].astype(float)
    data = anndata.AnnData(None, about, pd.DataFrame(index=pd.Index(FEATURES, dtype=object)))
    if where != "nowhere":
        getattr(data, where)["dino"] = table[FEATURES].to_numpy(np.float32)
    data.write_h5ad(tmp_path / "p.h5ad")
    if where == "nowhere":
        assert "has no matrix X" in refused([tmp_path / "p.h5ad"], tmp_path / "screen")
        return
    imported = import_profiles([tmp_path / "p.h5ad"], tmp_path / "screen")
    names = FEATURES if where == "layers" else ["dino_1", "dino_2", "dino_3"]
    np.testing.assert_allclose(written(tmp_path / "screen")[0][names], table[FEATURES], rtol=1e-6)
    assert f"p.h5ad has no X; {where}['dino'] is read." in said(imported)


@pytest.mark.parametrize("sparse", [False, True])
def test_anndata_is_read_with_its_observations(tmp_path, sparse):
    anndata = pytest.importorskip("anndata", reason="the extra anndata is not installed")
    from scipy.sparse import csr_matrix

    table = profiles()
    values = table[FEATURES].to_numpy(np.float32)
    about = table[list(wells())].astype(object).astype({"Metadata_pert_iname": "category"})
    about.index = pd.Index([str(row) for row in about.index], dtype=object)
    about["Metadata_mmoles_per_liter"] = about["Metadata_mmoles_per_liter"].astype(float)
    about["Metadata_pert_iname"] = about["Metadata_pert_iname"].cat.rename_categories(
        pd.Index(sorted(COMPOUNDS), dtype=object))
    data = anndata.AnnData(csr_matrix(values) if sparse else values, about,
                           pd.DataFrame(index=pd.Index(FEATURES, dtype=object)))
    data.write_h5ad(tmp_path / "p.h5ad")
    import_profiles([tmp_path / "p.h5ad"], tmp_path / "screen")
    rows, layout, _ = written(tmp_path / "screen")
    np.testing.assert_allclose(rows[FEATURES], values, rtol=1e-6)
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()


# What is read of the columns


def test_compounds_without_a_name_take_the_next_identifier(tmp_path):
    table = profiles().assign(Metadata_broad_sample="BRD-K1")
    table.loc[1, "Metadata_pert_iname"] = ""
    table.to_csv(tmp_path / "p.csv", index=False)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert written(tmp_path / "screen")[1]["Metadata_Compound"][1] == "BRD-K1"
    assert "1 well without a name take it from 'Metadata_broad_sample'" in said(imported)


def test_a_compound_column_of_an_unknown_name_is_asked_for(tmp_path):
    table = profiles().rename(columns={"Metadata_pert_iname": "Metadata_Ligand"})
    table.to_csv(tmp_path / "p.csv", index=False)
    sentence = refused([tmp_path / "p.csv"], tmp_path / "screen")
    assert "'Metadata_Ligand'" in sentence and "--compound COLUMN" in sentence
    assert not (tmp_path / "screen" / "profiles.parquet").exists()
    import_profiles([tmp_path / "p.csv"], tmp_path / "screen",
                    named=Named(compound="Metadata_Ligand"))
    assert written(tmp_path / "screen")[1]["Metadata_Compound"][1] == "taxol"
    assert "no such column" in refused([tmp_path / "p.csv"], tmp_path / "other",
                                       named=Named(compound="Ligand"))


def test_a_plate_map_and_a_table_of_compounds_fill_in_what_profiles_lack(tmp_path):
    table = profiles()
    table[["Metadata_Plate", "Metadata_Well", *FEATURES]].to_csv(tmp_path / "p.csv", index=False)
    table[["Metadata_Plate", "Metadata_Well", "Metadata_pert_iname"]].to_csv(
        tmp_path / "map.csv", index=False)
    (tmp_path / "moa.csv").write_text("compound,moa\nTaxol,tubulin\nnocodazole,tubulin\n")
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen",
                               layout=tmp_path / "map.csv", annotations=tmp_path / "moa.csv")
    _, layout, annotations = written(tmp_path / "screen")
    assert layout["Metadata_Compound"].tolist() == table["Metadata_pert_iname"].tolist()
    assert annotations["Metadata_MoA"].tolist() == ["", "tubulin", "tubulin"]
    assert "moa.csv lacks 1 compound of the screen: aspirin" in said(imported)


def test_positive_controls_and_vehicles_are_told_apart(tmp_path):
    table = profiles()
    table.loc[table["Metadata_pert_iname"] == "taxol", "Metadata_pert_type"] = "control"
    table.to_csv(tmp_path / "p.csv", index=False)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    layout = written(tmp_path / "screen")[1].set_index("Metadata_Compound")["Metadata_Control"]
    assert set(layout["taxol"]) == {"positive"} and set(layout["DMSO"]) == {"negative"}
    assert "wells of taxol with 'control'" in said(imported)


def test_numbers_that_describe_a_row_are_no_features_and_are_named(tmp_path):
    table = profiles().rename(columns=lambda column: column.removeprefix("Metadata_"))
    table = table.rename(columns=dict(zip(FEATURES, ["area", "brightness", "texture"],
                                          strict=True)))
    table = table.assign(Batch_No=1, Replicate=2, gpcr=1, Compound_Id=range(len(table)))
    table.to_csv(tmp_path / "p.csv", index=True)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert imported.features == ("area", "brightness", "texture")
    for column in ("'Batch_No'", "'Replicate'", "'gpcr'", "'Compound_Id'"):
        assert column in said(imported)


def test_rows_that_name_no_well_get_one_each(tmp_path):
    table = profiles().drop(columns=["Metadata_Plate", "Metadata_Well"])
    table.to_csv(tmp_path / "consensus.csv", index=False)
    imported = import_profiles([tmp_path / "consensus.csv"], tmp_path / "screen")
    rows = written(tmp_path / "screen")[0]
    assert rows["Metadata_Well"].tolist()[:3] == ["A01", "A02", "A03"]
    assert set(rows["Metadata_Plate"]) == {"consensus"}
    assert "does not say which wells" in said(imported)


def test_semicolons_with_decimal_commas_are_read(tmp_path):
    table = profiles()
    table.to_csv(tmp_path / "p.csv", index=False, sep=";", decimal=",")
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    np.testing.assert_allclose(written(tmp_path / "screen")[0][FEATURES], table[FEATURES],
                               rtol=1e-5)
    assert "decimal comma" in said(imported)


def test_sites_stay_rows_of_their_own(tmp_path):
    table = pd.concat([profiles().assign(Metadata_Site=site) for site in (2, 1)])
    table.to_csv(tmp_path / "p.csv", index=False)
    import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert written(tmp_path / "screen")[0]["Metadata_Site"].tolist() == [1, 2] * 16


def test_an_update_keeps_what_a_person_filled_in(tmp_path):
    profiles().to_csv(tmp_path / "p.csv", index=False)
    import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    path = tmp_path / "screen" / "annotations.csv"
    path.write_text(path.read_text().replace("taxol way|second way", "mine"))
    assert "already has a profiles.parquet" in refused([tmp_path / "p.csv"], tmp_path / "screen")
    import_profiles([tmp_path / "p.csv"], tmp_path / "screen", update=True)
    assert "mine" in path.read_text()


# Bad input


def test_values_that_are_missing_or_infinite_are_named(tmp_path):
    table = profiles()
    table.loc[3, FEATURES] = np.nan
    table.loc[5, FEATURES[0]] = np.inf
    table.assign(Cells_Empty=np.nan).to_parquet(tmp_path / "p.parquet")
    imported = import_profiles([tmp_path / "p.parquet"], tmp_path / "screen")
    rows = written(tmp_path / "screen")[0]
    assert len(rows) == 15 and "Cells_Empty" not in rows
    assert np.isnan(rows[FEATURES[0]][4])
    assert "1 row without any value left out, of P1 A04" in said(imported)
    assert f"1 infinite value (or too large for 32 bits) taken as missing, in {FEATURES[0]}" in (
        said(imported))
    assert "1 feature without any value left out: Cells_Empty" in said(imported)


@pytest.mark.parametrize("values, shown", [
    (["0.1", "n/d", "3", "", "1e-3", "2", "4", "5"], "row 2 holds 'n/d'"),
    ([f"0,{number}" for number in range(1, 9)], "row 1 holds '0,1'")])
def test_a_column_of_numbers_that_words_spoil_is_named_with_the_first_of_them(tmp_path, values,
                                                                              shown):
    table = profiles(["P1"]).assign(Cells_Spoilt=values, Cells_Note=list("abcdefgh"))
    table.to_csv(tmp_path / "p.csv", index=False)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert imported.features == tuple(FEATURES)
    assert (f"p.csv: 'Cells_Spoilt' is not read as a feature, because {shown}, which is not a "
            "number.") in said(imported)
    assert "1 column not read: 'Cells_Note'" in said(imported)


def test_rows_that_are_there_twice_are_not_counted_as_cells(tmp_path):
    table = profiles()
    pd.concat([table, table.iloc[[3]]]).to_csv(tmp_path / "p.csv", index=False)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert "17 rows averaged to 16 wells" in said(imported)
    assert imported.features == tuple(FEATURES)


def test_plates_without_controls_among_others_are_named(tmp_path):
    table = profiles()
    own = (table["Metadata_Plate"] == "P2") & (table["Metadata_pert_iname"] == "DMSO")
    table.loc[own, ["Metadata_pert_iname", "Metadata_pert_type"]] = ["ibuprofen", "trt"]
    table.to_csv(tmp_path / "p.csv", index=False)
    imported = import_profiles([tmp_path / "p.csv"], tmp_path / "screen")
    assert "1 plate of 2 without a negative control: P2" in said(imported)


def test_a_well_with_two_compounds_is_refused(tmp_path):
    table = pd.concat([profiles(), profiles().iloc[[1]].assign(Metadata_pert_iname="other")])
    table.to_csv(tmp_path / "p.csv", index=False)
    sentence = refused([tmp_path / "p.csv"], tmp_path / "screen")
    assert "two different entries for plate P1, well A02: taxol" in sentence


def test_two_stages_of_processing_of_one_plate_are_not_mixed(tmp_path):
    for ending in ("normalized", "normalized_feature_select"):
        profiles(("P1",)).to_csv(tmp_path / f"P1_{ending}.csv.gz", index=False)
    sentence = refused([tmp_path], tmp_path / "screen")
    assert "well A01 is in P1_normalized.csv.gz, P1_normalized_feature_select.csv.gz" in sentence
    import_profiles([str(tmp_path / "*_normalized.csv.gz")], tmp_path / "screen")


def test_cells_of_a_well_may_be_spread_over_tables(tmp_path):
    cells = pd.concat([profiles(("P1",), seed) for seed in range(6)], ignore_index=True)
    for at in (0, 1):
        cells[at * 24:(at + 1) * 24].to_parquet(tmp_path / f"part{at}.parquet")
    import_profiles([tmp_path], tmp_path / "screen")
    np.testing.assert_allclose(written(tmp_path / "screen")[0][FEATURES],
                               cells.groupby("Metadata_Well")[FEATURES].median(), rtol=1e-5)


def test_dmso_of_jump_is_the_negative_control(tmp_path):
    table = profiles().rename(columns={"Metadata_pert_iname": "Metadata_JCP2022"})
    table = table.drop(columns=["Metadata_pert_type", "Metadata_moa"])
    table["Metadata_JCP2022"] = table["Metadata_JCP2022"].map(
        dict(zip(COMPOUNDS, ("JCP2022_033924", "JCP2022_000001", "JCP2022_000002",
                             "JCP2022_000003"), strict=True)))
    table.to_parquet(tmp_path / "p.parquet")
    import_profiles([tmp_path / "p.parquet"], tmp_path / "screen")
    layout = written(tmp_path / "screen")[1]
    assert (layout["Metadata_Control"] == "negative").sum() == 4


def cut(path):
    path.write_bytes(path.read_bytes()[:-len(path.read_bytes()) // 3])


def damaged(kind, folder):
    table = profiles()
    if kind == "no numbers":
        table[list(wells())].astype(str).to_csv(folder / "p.csv", index=False)
    elif kind == "text among numbers":
        text = table.astype({FEATURES[1]: object})
        long = pd.concat([text] * 50)
        long.iloc[-1, long.columns.get_loc(FEATURES[1])] = "n.d."
        long.to_csv(folder / "p.csv", index=False)
    elif kind == "short row":
        (folder / "p.csv").write_text(table.to_csv(index=False) + "P1,A01\n")
    elif kind == "bad well":
        table.assign(Metadata_Well=["Z99", *table["Metadata_Well"][1:]]).to_csv(
            folder / "p.csv", index=False)
    elif kind == "huge header":
        (folder / "p.csv").write_text("x" * (2**24 + 1) + "\n1\n")
    elif kind == "column twice":
        (folder / "p.csv").write_text("Metadata_Plate,Metadata_Well,a,a\nP1,A01,1,2\n")
    elif kind == "header only":
        table[:0].to_csv(folder / "p.csv", index=False)
    elif kind == "empty":
        (folder / "p.csv").write_text("")
    elif kind == "binary":
        (folder / "p.csv").write_bytes(bytes(range(256)) * 10)
    elif kind == "cut gzip":
        table.to_csv(folder / "p.csv.gz", index=False)
        cut(folder / "p.csv.gz")
    elif kind == "gzip bomb":
        with gzip.open(folder / "p.csv.gz", "wb") as file:
            for _ in range(40):
                file.write(b"0" * 2**20)
    elif kind == "cut parquet":
        table.to_parquet(folder / "p.parquet")
        cut(folder / "p.parquet")
    elif kind == "other sqlite":
        database = sqlite3.connect(folder / "p.sqlite")
        pd.DataFrame({"a": [1]}).to_sql("people", database)
        database.close()
    elif kind == "no sqlite":
        (folder / "p.sqlite").write_bytes(b"no database" * 100)
    elif kind == "cut npz":
        np.savez(folder / "p.npz", features=table[FEATURES])
        cut(folder / "p.npz")
    elif kind == "cut npy":
        np.save(folder / "p.npy", table[FEATURES])
        cut(folder / "p.npy")
    elif kind == "pickled npy":
        np.save(folder / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "bare npy":
        np.save(folder / "p.npy", table[FEATURES])
    elif kind == "no h5ad":
        (folder / "p.h5ad").write_bytes(b"no hdf5" * 100)
    return next(folder.iterdir())


@pytest.mark.parametrize("kind, sentence", [
    ("no numbers", "no numeric column"),
    ("text among numbers", "'n.d.', which is not one"),
    ("short row", "a row of 2 values for 9 columns"),
    ("bad well", "'Z99' is not a well name"),
    ("huge header", "not a header"),
    ("column twice", "the column 'a' twice"),
    ("header only", "has a header but no rows"),
    ("empty", "is empty"),
    ("binary", "bytes of zero"),
    ("cut gzip", "damaged or cut off"),
    ("gzip bomb", "not a header"),
    ("cut parquet", "cannot be read as Parquet"),
    ("other sqlite", "is SQLite, but not of CellProfiler"),
    ("no sqlite", "is not a SQLite database"),
    ("cut npz", "may be cut off"),
    ("cut npy", "is cut off"),
    ("pickled npy", "could run code"),
    ("bare npy", "--metadata"),
    ("no h5ad", "cannot be read as AnnData"),
])
def test_what_cannot_be_read_is_a_sentence(tmp_path, monkeypatch, kind, sentence):
    from moascope.importing.profiles import text

    monkeypatch.setattr(text, "_BLOCK", 2**13)
    if kind == "no h5ad":
        pytest.importorskip("anndata", reason="the extra anndata is not installed")
    folder = tmp_path / "given"
    folder.mkdir()
    assert sentence in refused([damaged(kind, folder)], tmp_path / "screen")
    assert not (tmp_path / "screen" / "profiles.parquet").exists()


def test_a_matrix_with_fewer_rows_than_its_table_is_refused(tmp_path):
    table = profiles()
    np.save(tmp_path / "x.npy", table[FEATURES][:5])
    table[list(wells())].to_csv(tmp_path / "rows.csv", index=False)
    assert "has 16 rows and x.npy 5" in refused([tmp_path / "x.npy"], tmp_path / "screen",
                                                metadata=tmp_path / "rows.csv")


def test_a_row_group_that_is_too_large_to_be_held_is_turned_on_disk(tmp_path, monkeypatch):
    from moascope.importing.profiles import parquet, text

    table = profiles()
    table.to_parquet(tmp_path / "p.parquet")
    import_profiles([tmp_path / "p.parquet"], tmp_path / "whole")
    monkeypatch.setattr(parquet, "_WHOLE_GROUP", 0)
    monkeypatch.setattr(parquet, "_COLUMNS_BYTES", 8 * len(table))
    monkeypatch.setattr(text, "CHUNK_BYTES", 4 * 3 * len(FEATURES))
    import_profiles([tmp_path / "p.parquet"], tmp_path / "parts")
    pd.testing.assert_frame_equal(written(tmp_path / "whole")[0], written(tmp_path / "parts")[0])


# Real tables


def test_the_lincs_plate_is_imported_as_it_is(tmp_path, real_data):
    imported = import_profiles([real_data / "profiles" / "lincs_plate"], tmp_path / "screen")
    rows, layout, annotations = written(tmp_path / "screen")
    own = [name for name in rows if name.startswith("Metadata_")]
    assert own == ["Metadata_Plate", "Metadata_Batch", "Metadata_Well"]
    assert rows.shape == (384, len(own) + 454)
    assert (layout["Metadata_Control"] == "negative").sum() == 24
    assert len(annotations) == 58 and (annotations["Metadata_MoA"] != "").sum() == 55
    assert float(layout["Metadata_Concentration_uM"].max()) < 100
    assert imported.kind.startswith("a table of profiles")
