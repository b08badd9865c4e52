"""`moascope annotate`: files in, files out, and what the terminal says."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.annotation.compounds import (
    UNNAMED,
    Annotated,
    annotate_compounds,
    keep_decided,
    read_compounds,
    read_earlier,
    read_genes,
    read_targets,
    table_version,
    write_annotations,
)
from moascope.annotation.review import images_of, review_list
from moascope.errors import MoascopeError
from moascope.screen.tables import Screen, read_screen
from moascope.text import counted, listing
from moascope.work.files import write_csv

_SHOWN = 10


@dataclass(frozen=True)
class Done:
    """What `annotate_files` decided and what it left to a person.

    Attributes
    ----------
    annotated : Annotated
    review : DataFrame
        As from `review_list`.
    screen : Screen or None
    images_are : str
        What the column `images` of the review counts.
    """

    annotated: Annotated
    review: pd.DataFrame
    screen: Screen | None
    images_are: str


def annotate_files(compounds: Path, out: Path, genes: Path | None = None,
                   targets: Path | None = None, review: Path | None = None,
                   screen: Path | None = None) -> Done:
    """Annotate a file of compounds; write annotations.csv and, where asked, the review list.

    Raises
    ------
    MoascopeError
        Where a file cannot be used.
    """
    if targets is not None and genes is None:
        raise MoascopeError("--targets needs --genes, a table of the genes that are GPCRs. Write "
                            "one symbol a line, or download the targets of the Guide to "
                            "PHARMACOLOGY.")
    given = read_compounds(compounds)
    warnings = list(given.warnings)
    gpcr_genes: frozenset[str] = frozenset()
    if genes is not None:
        gpcr_genes, left_out = read_genes(genes)
        warnings += left_out
        if targets is None and "Metadata_Target" not in given.table:
            warnings.append(f"--genes is of no use without target genes: {compounds.name} has no "
                            "column Metadata_Target, and --targets names no table.")
    of_screen = read_screen(screen) if screen is not None else None
    found_targets = read_targets(targets) if targets is not None else {}
    if found_targets:
        known = given.table["Metadata_Compound"].str.casefold().isin(found_targets)
        if not known.any():
            raise MoascopeError(f"No compound of {compounds} is in {targets}. Are the names "
                                "written alike?")
    earlier = read_earlier(out)
    table, kept = keep_decided(given.table, earlier)
    if len(kept):
        warnings.append(f"{out} holds {counted(len(kept), 'decision')} of persons on compounds "
                        f"that {compounds.name} does not name; they stay in it: {listing(kept)}.")
    annotated = annotate_compounds(
        table, targets=found_targets, gpcr_genes=gpcr_genes,
        genes_name=genes.name if genes is not None else "", earlier=earlier)
    listed = review_list(annotated, images_of(of_screen) if of_screen is not None
                         else given.rows.to_dict())
    write_annotations(out, annotated.table)
    if review is not None:
        review.parent.mkdir(parents=True, exist_ok=True)
        write_csv(review, listed)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Done(annotated, listed, of_screen,
                "images" if of_screen is not None else f"rows of {compounds.name}")


def print_summary(done: Done, out: Path, review: Path | None) -> None:
    """Print counts by family and action, and the head of the review list."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = done.annotated.table
    counts = Counter(table["gpcr"])
    without = int((table["Metadata_MoA"] == "").sum())
    console.print(f"{counted(len(table), 'compound')} by terms {table_version()}: "
                  f"{counts['yes']:,} act through a GPCR, {counts['no']:,} do not, "
                  f"{counts['unknown']:,} unknown ({without:,} of all have no MoA).",
                  highlight=False)
    actions = Counter(table.loc[table["gpcr"] == "yes", "gpcr_action"])
    families: dict[str, Counter[str]] = {}
    for gpcr, decision in zip(table["gpcr"], done.annotated.decisions, strict=True):
        for family, action in decision.families if gpcr == "yes" else ():
            families.setdefault(family, Counter())[action] += 1
    if families:
        words = [action for action, _ in actions.most_common()]
        shown = Table(title="GPCRs by family and action", title_justify="left",
                      caption="A compound may have several families, and another action at each.",
                      caption_justify="left")
        shown.add_column("receptors", no_wrap=True)
        for word in words:
            shown.add_column("both" if word == "agonist|antagonist" else word or "not said",
                             justify="right")
        shown.add_column("all", justify="right")
        for family, of_family in sorted(families.items(),
                                        key=lambda item: (-item[1].total(), item[0])):
            shown.add_row(family.removesuffix(" receptors"),
                          *(str(of_family[word] or "") for word in words), str(of_family.total()))
        shown.add_section()
        shown.add_row("compounds", *(str(actions[word]) for word in words), str(counts["yes"]))
        console.print(shown)
    persons = Counter(curator for curator in table["curator"] if curator)
    if persons:
        console.print("Kept as persons said: " + ", ".join(
            f"{count:,} by {name}" for name, count in persons.most_common())
            + ("." if UNNAMED not in persons else f". '{UNNAMED}' are decisions that came without "
               "evidence or curator."), highlight=False)
    if len(done.review):
        console.print(f"To review, by {done.images_are} ({len(done.review):,}):", highlight=False)
        for row in done.review.head(_SHOWN).itertuples():
            console.print(f"  {row.images:>8,}  {row.Metadata_Compound}: {row.question}",
                          highlight=False, markup=False, soft_wrap=True)
        if len(done.review) > _SHOWN:
            console.print(f"  and {len(done.review) - _SHOWN:,} more"
                          + (f" in {review}" if review else "; --review FILE writes them all"),
                          highlight=False)
    console.print(f"Written: {out}" + (f" and {review}" if review else ""), highlight=False,
                  soft_wrap=True)
