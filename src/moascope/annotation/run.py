"""`moascope annotate`: files in, files out, and what the terminal shows."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from moascope.annotation.review import and_more, images_of, review_list
from moascope.errors import MoascopeError
from moascope.screen.tables import Screen, read_given_screen
from moascope.text import counted, listing, tidy
from moascope.work.files import write_csv

_SHOWN = 10
_LONGEST_NAME = 32
_LONGEST_TERM = 60
_ACTIONS = ("agonist", "antagonist", "several", "other", "not stated")


@dataclass(frozen=True)
class Done:
    """What `annotate_files` decided and what it leaves to a person.

    Attributes
    ----------
    annotated : Annotated
    review : DataFrame
        As from `review_list`.
    screen : Screen or None
    images_are : str
        What the column `images` of the review list counts.
    """

    annotated: Annotated
    review: pd.DataFrame
    screen: Screen | None
    images_are: str


def annotate_files(compounds: Path, out: Path, genes: Path | None = None,
                   targets: Path | None = None, review: Path | None = None,
                   screen: Path | None = None, allow_outside: bool = False) -> Done:
    """Annotate a file of compounds; write annotations.csv and, on request, the review list.

    Raises
    ------
    MoascopeError
        Where a file cannot be used.
    """
    if targets is not None and genes is None:
        raise MoascopeError("--targets needs --genes, a table of the genes that are GPCRs: one "
                            "symbol per line, or the list of targets that the Guide to "
                            "PHARMACOLOGY offers for download.")
    given = read_compounds(compounds)
    warnings = list(given.warnings)
    gpcr_genes: frozenset[str] = frozenset()
    if genes is not None:
        gpcr_genes, left_out = read_genes(genes)
        warnings += left_out
        if targets is None and "Metadata_Target" not in given.table:
            warnings.append(f"--genes has no effect without target genes. Add a column "
                            f"Metadata_Target to {compounds.name}, or pass a table with "
                            "--targets.")
    of_screen = (read_given_screen(screen, allow_outside)
                 if screen is not None else None)
    found_targets = read_targets(targets) if targets is not None else {}
    if found_targets:
        known = given.table["Metadata_Compound"].str.casefold().isin(found_targets)
        if not known.any():
            raise MoascopeError(f"No compound of {compounds} is in {targets}. Check that both "
                                "spell the names alike.")
    earlier = read_earlier(out)
    table, kept = keep_decided(given.table, earlier)
    if len(kept):
        warnings.append(f"{compounds.name} lacks {counted(len(kept), 'compound')} that a person "
                        f"has decided in {out}; the decisions are kept: {listing(kept)}.")
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
                "images" if of_screen is not None else f"rows in {compounds.name}")


def print_summary(done: Done, out: Path, review: Path | None) -> None:
    """Print counts by family and action, and the head of the review list."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    table = done.annotated.table
    counts = Counter(table["gpcr"])
    without = int((table["Metadata_MoA"] == "").sum())
    console.print(f"{counted(len(table), 'compound')}: {counts['yes']:,} act through a GPCR, "
                  f"{counts['no']:,} do not, {counts['unknown']:,} unknown ({without:,} without a "
                  f"mechanism). Term table version {table_version()}.")
    if any(decision.families and gpcr == "yes" for gpcr, decision in zip(
            table["gpcr"], done.annotated.decisions, strict=True)):
        console.print(_families_table(done))
    persons = Counter(curator for curator in table["curator"] if curator)
    if persons:
        console.print("Decisions kept: " + ", ".join(
            f"{count:,} by {name}" for name, count in persons.most_common())
            + ("." if UNNAMED not in persons else f". '{UNNAMED}' are those without evidence and "
               "curator."))
    if len(done.review):
        console.print(_review_table(done))
        more = int(done.review["number"].max()) - _SHOWN
        if more > 0:
            console.print(f"and {counted(more, 'more question')}"
                          + (f" in {review}" if review else "; --review FILE saves the whole list"),
                          soft_wrap=True)
    console.print(f"Saved {out}" + (f" and {review}" if review else ""), soft_wrap=True)


def _families_table(done: Done) -> Any:
    """GPCRs by family and action; in a narrow terminal the families wrap and the numbers stay."""
    from rich import box
    from rich.table import Table

    table = done.annotated.table
    actions = Counter(_action(action) for action in table.loc[table["gpcr"] == "yes",
                                                              "gpcr_action"])
    families: dict[str, Counter[str]] = {}
    for gpcr, decision in zip(table["gpcr"], done.annotated.decisions, strict=True):
        for family, action in decision.families if gpcr == "yes" else ():
            families.setdefault(family, Counter())[_action(action)] += 1
    words = [word for word in _ACTIONS if actions[word]
             or any(of_family[word] for of_family in families.values())]
    shown = Table(title="GPCRs by receptor family and action", title_justify="left",
                  caption="A compound may act on several families, with a different action on "
                          "each.", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("receptors", overflow="fold")
    for word in [*words, "all"]:
        shown.add_column(word, justify="right", no_wrap=True)
    for family, of_family in sorted(families.items(),
                                    key=lambda item: (-item[1].total(), item[0])):
        shown.add_row(family.removesuffix(" receptors"),
                      *(f"{of_family[word]:,}" if of_family[word] else "" for word in words),
                      f"{of_family.total():,}")
    shown.add_section()
    shown.add_row("compounds", *(f"{actions[word]:,}" for word in words),
                  f"{actions.total():,}")
    return shown


def _review_table(done: Done) -> Any:
    """The head of the review list; long names are cut and questions wrap."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    counted_in, _, where = done.images_are.partition(" ")
    questions = done.review.groupby("number", sort=True).agg(
        images=("images", "sum"), compound=("Metadata_Compound", "first"),
        compounds=("Metadata_Compound", "size"), question=("question", "first"))
    title = f"To review: {counted(len(done.review), 'compound')}"
    if len(questions) < len(done.review):
        title += f" with {counted(len(questions), 'question')}"
    if len(questions) > 1:
        title += f", most {counted_in} {where}".rstrip() + " first"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(counted_in, justify="right", no_wrap=True)
    shown.add_column("compound", overflow="fold", max_width=_LONGEST_NAME)
    shown.add_column("question", overflow="fold")
    for row in questions.head(_SHOWN).itertuples():
        shown.add_row(f"{row.images:,}",
                      Text(and_more(tidy(row.compound, _LONGEST_NAME), row.compounds)),
                      Text(_short(row.question)))
    return shown


def _short(question: str) -> str:
    """A question on one line whose mechanism, which may be a paragraph, is cut."""
    term, colon, asked = tidy(question).rpartition(": ")
    return tidy(term, _LONGEST_TERM) + colon + asked


def _action(action: str) -> str:
    """The column of an action: one that is stated, several, or none."""
    return "several" if "|" in action else action or "not stated"
