"""The compounds of the simulated screen: mechanisms, strengths and annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moascope.sources.simulated.seeds import stream

KNOBS = (
    "count", "nuclear_size", "nuclear_intensity", "nuclear_shape", "cell_size",
    "marker2_intensity", "marker2_spots", "marker2_perinuclear",
    "marker3_intensity", "marker3_nuclear", "marker3_fibres", "vacuoles",
)
# The knobs of every well, in the screen's folder: for the oracle, which no model is chosen by.
KNOB_TABLE = "truth/knobs.parquet"

# Receptor families with the G protein they couple to. In the families listed in INVERSE an
# antagonist moves the cells exactly opposite to an agonist; in the others it acts on its own.
COUPLING = {"Adrenergic": "Gs", "Dopamine": "Gi", "Histamine": "Gq", "Serotonin": "Gi",
            "Muscarinic": "Gq", "Adenosine": "Gs", "Opioid": "Gi", "Angiotensin": "Gq"}
INVERSE = ("Adrenergic", "Histamine", "Adenosine")

STRONG = ("Proteasome inhibitor", "HDAC inhibitor", "Tubulin inhibitor", "Topoisomerase inhibitor",
          "PLK inhibitor")
# The glucocorticoid receptor is a nuclear receptor: a name that sounds like a GPCR and is none.
MEDIUM = ("Glucocorticoid receptor agonist", "MEK inhibitor", "mTOR inhibitor", "CDK inhibitor",
          "HMGCR inhibitor", "EGFR inhibitor", "Sodium/potassium-ATPase inhibitor")
INERT = ("Cyclooxygenase inhibitor", "Bacterial cell wall synthesis inhibitor",
         "Sulfonylurea", "Carbonic anhydrase inhibitor", "Beta-lactamase inhibitor",
         "Xanthine oxidase inhibitor")

SHARES = {"agonist": 0.062, "antagonist": 0.100, "strong": 0.22, "medium": 0.32}
STRENGTH = {"strong": 3.0, "medium": 1.3, "inert": 0.0, "agonist": 2.0, "antagonist": 1.2}
# `signal` is the strength of an agonist; the other kinds keep their ratio to it.
REFERENCE_SIGNAL = STRENGTH["agonist"]

# What the response that GPCR ligands may share moves: where things lie, not how many cells there
# are nor how bright they are, or the baseline of count and intensity would find them as well.
SHARED_KNOBS = ("nuclear_shape", "marker2_spots", "marker2_perinuclear", "marker3_nuclear",
                "marker3_fibres")

COMPOUNDS_PER_CLASS = 6
SHARED_BY_COUPLING = 0.6
UNKNOWN_SHARE = 0.05
ISOMER_SHARE = 0.03
OWN_EFFECT_SD = 1.2
EC50_RANGE_UM = (0.2, 8.0)
HILL_SLOPE = 1.3
AMPHIPHILIC_PROBABILITY = {"antagonist": 0.5}
AMPHIPHILIC_PROBABILITY_ELSE = 0.12
VACUOLE_EFFECT = 2.5


@dataclass(frozen=True)
class Compound:
    """One compound: the truth about it, and whether it is annotated."""

    name: str
    inchikey: str
    moa: str
    kind: str                  # agonist, antagonist, strong, medium or inert
    family: str                # receptor family, "" when it acts through no GPCR
    strength: float            # length of the class effect, before `signal`
    ec50: float                # µM
    own_strength: float        # length of the effect that is the compound's alone
    amphiphilic: bool          # swells lysosomes, whatever its target
    annotated: bool            # False: the curator could not find a mechanism
    silenced: tuple[str, ...]  # panels that do not express its receptor
    own_direction: tuple[float, ...]

    @property
    def through_gpcr(self) -> bool:
        return self.kind in ("agonist", "antagonist")


def class_direction(seed: int, moa: str) -> np.ndarray:
    """Unit vector over `KNOBS` along which a mechanism moves the cells.

    Agonists of families that couple to one G protein share a part of their direction, as they
    share second messengers. Vacuoles belong to a compound's chemistry and to no mechanism.

    Returns
    -------
    ndarray, float64, shape (12,)
    """
    family, _, action = moa.partition(" receptor ")
    if family not in COUPLING:
        return _direction(seed, moa)
    if action == "antagonist" and family not in INVERSE:
        return _direction(seed, moa)
    shared = _direction(seed, "coupling " + COUPLING[family])
    own = _direction(seed, f"{family} receptor agonist")
    mixed = SHARED_BY_COUPLING * shared + np.sqrt(1 - SHARED_BY_COUPLING**2) * own
    unit = mixed / np.linalg.norm(mixed)
    return -unit if action == "antagonist" else unit


def shared_direction(seed: int) -> np.ndarray:
    """Unit vector over `KNOBS` of the response that GPCR ligands share.

    All `SHARED_KNOBS` move equally far, up or down depending on the seed, so that no seed puts the
    whole response into a single knob that the panels hardly show.

    Returns
    -------
    ndarray, float64, shape (12,)
    """
    signs = stream(seed, "direction", "shared").choice([-1.0, 1.0], len(SHARED_KNOBS))
    direction = np.zeros(len(KNOBS))
    direction[[KNOBS.index(name) for name in SHARED_KNOBS]] = signs / np.sqrt(len(SHARED_KNOBS))
    return direction


def response(
    seed: int, compound: Compound, concentration: float, panel: str, signal: float,
    shared_gpcr: float = 0.0,
) -> np.ndarray:
    """Displacement of the knobs by a compound at a concentration in a panel.

    Parameters
    ----------
    seed : int
        Seed of the screen.
    compound : Compound
    concentration : float
        µM, finite.
    panel : str
        Name of the reporter line. If it does not express the receptor, the mechanism has no effect,
        and only the compound's own effect, the shared response and its vacuoles remain.
    signal : float
        Strength of an agonist in standard deviations; at 0 nothing depends on the mechanism.
    shared_gpcr : float
        Strength of the response that all GPCR ligands share, agonists and antagonists, in every
        panel, at a `signal` of `REFERENCE_SIGNAL`; like all strengths it is proportional to it.

    Returns
    -------
    ndarray, float64, shape (12,)
        In the order of `KNOBS`.
    """
    occupied = concentration**HILL_SLOPE
    hill = occupied / (occupied + compound.ec50**HILL_SLOPE)
    scale = signal / REFERENCE_SIGNAL
    effect = compound.own_strength * np.asarray(compound.own_direction)
    if panel not in compound.silenced:
        effect = effect + scale * compound.strength * class_direction(seed, compound.moa)
    if compound.through_gpcr and shared_gpcr:
        # Also where the family's own response is mute: a response in half of the panels would
        # bury most of it in the other half.
        effect = effect + scale * shared_gpcr * shared_direction(seed)
    if compound.amphiphilic:
        # Scaled as well: amphiphiles are more frequent among antagonists, which would betray
        # the class in a screen that is to hold no signal.
        effect = effect + scale * VACUOLE_EFFECT * (np.arange(len(KNOBS)) == len(KNOBS) - 1)
    return hill * effect


def draw_compounds(seed: int, number: int, panels: tuple[str, ...]) -> list[Compound]:
    """Draw the compounds of a screen.

    Parameters
    ----------
    seed : int
        Seed of the screen.
    number : int
        Number of compounds, not counting DMSO.
    panels : tuple of str
        Names of the panels, half of which (rounded down) do not express the receptors of a family.

    Returns
    -------
    list of Compound
        In random order, so that the name says nothing about the mechanism.
    """
    rng = stream(seed, "compounds")
    unknown = round(UNKNOWN_SHARE * number)
    known_classes = _classes(number - unknown)
    # Compounds without an annotation have a mechanism like all others; nobody wrote it down.
    hidden_classes = [known_classes[i] for i in rng.integers(len(known_classes), size=unknown)]
    silenced = _silenced(seed, panels)
    drawn = []
    for index, (moa, kind, family) in enumerate(known_classes + hidden_classes):
        amphiphilic = AMPHIPHILIC_PROBABILITY.get(kind, AMPHIPHILIC_PROBABILITY_ELSE)
        drawn.append(Compound(
            name="", inchikey=_inchikey(rng), moa=moa, kind=kind, family=family,
            strength=STRENGTH[kind],
            ec50=float(np.exp(rng.uniform(*np.log(EC50_RANGE_UM)))),
            own_strength=float(abs(rng.normal(0, OWN_EFFECT_SD))),
            amphiphilic=bool(rng.random() < amphiphilic),
            annotated=index < len(known_classes),
            silenced=silenced.get(family, ()),
            own_direction=tuple(_unit(rng).tolist()),
        ))
    for first, second in _isomers(drawn, round(ISOMER_SHARE * number), rng):
        # Stereoisomers differ in little more than potency.
        drawn[second] = replace(
            drawn[second],
            inchikey=drawn[first].inchikey[:14] + drawn[second].inchikey[14:],
            own_strength=drawn[first].own_strength, own_direction=drawn[first].own_direction,
            amphiphilic=drawn[first].amphiphilic)
    order = rng.permutation(len(drawn))
    return [replace(drawn[i], name=f"SIM-{place:04d}") for place, i in enumerate(order, start=1)]


def annotation_table(compounds: list[Compound]) -> pd.DataFrame:
    """What a curator knows: one row per compound; an unknown mechanism is empty."""
    return pd.DataFrame([
        {
            "Metadata_Compound": compound.name,
            "Metadata_MoA": compound.moa if compound.annotated else "",
            "Metadata_InChIKey": compound.inchikey,
            "gpcr": ("yes" if compound.through_gpcr else "no") if compound.annotated
            else "unknown",
            "gpcr_action": compound.kind if compound.through_gpcr and compound.annotated else "",
            "evidence": "simulated" if compound.annotated else "",
            "curator": "simulated" if compound.annotated else "",
        }
        for compound in compounds
    ])


def truth_table(compounds: list[Compound], signal: float,
                shared_gpcr: float = 0.0) -> pd.DataFrame:
    """The whole truth, also about compounds without an annotation."""
    return pd.DataFrame([
        {
            "Metadata_Compound": compound.name,
            "moa": compound.moa,
            "kind": compound.kind,
            "family": compound.family,
            "strength": compound.strength * signal / REFERENCE_SIGNAL,
            "shared_strength": (shared_gpcr * signal / REFERENCE_SIGNAL
                                if compound.through_gpcr else 0.0),
            "ec50_uM": round(compound.ec50, 6),
            "own_strength": round(compound.own_strength, 6),
            "amphiphilic": compound.amphiphilic,
            "annotated": compound.annotated,
            "silenced_panels": "|".join(compound.silenced),
        }
        for compound in compounds
    ])


def _classes(number: int) -> list[tuple[str, str, str]]:
    agonists = max(1, round(SHARES["agonist"] * number))
    gpcr = max(agonists + 1, round((SHARES["agonist"] + SHARES["antagonist"]) * number))
    strong = round(SHARES["strong"] * number)
    medium = round(SHARES["medium"] * number)
    families = list(COUPLING)[: _class_count(gpcr, len(COUPLING), least=2)]
    rows = [(f"{families[i % len(families)]} receptor agonist", "agonist",
             families[i % len(families)]) for i in range(agonists)]
    rows += [(f"{families[i % len(families)]} receptor antagonist", "antagonist",
              families[i % len(families)]) for i in range(gpcr - agonists)]
    for kind, names, count in (("strong", STRONG, strong), ("medium", MEDIUM, medium),
                               ("inert", INERT, number - gpcr - strong - medium)):
        used = names[: _class_count(count, len(names))]
        rows += [(used[i % len(used)], kind, "") for i in range(count)]
    return rows[:number]


def _class_count(compounds: int, most: int, least: int = 1) -> int:
    return min(most, max(least, round(compounds / COMPOUNDS_PER_CLASS)))


def _silenced(seed: int, panels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    # Families take turns, so that no panel is left with all the receptors or with none.
    start = int(stream(seed, "expression").integers(len(panels)))
    mute = len(panels) // 2
    return {family: tuple(panels[(start + turn + i) % len(panels)] for i in range(mute))
            for turn, family in enumerate(COUPLING)}


def _isomers(
    compounds: list[Compound], pairs: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    by_class: dict[str, list[int]] = {}
    for index, compound in enumerate(compounds):
        if compound.annotated:
            by_class.setdefault(compound.moa, []).append(index)
    able = [members for members in by_class.values() if len(members) >= 2]
    chosen = rng.permutation(len(able))[:pairs]
    return [(able[i][0], able[i][1]) for i in chosen]


def _direction(seed: int, name: str) -> np.ndarray:
    return _unit(stream(seed, "direction", name))


def _unit(rng: np.random.Generator) -> np.ndarray:
    vector = np.append(rng.normal(size=len(KNOBS) - 1), 0.0)
    return vector / np.linalg.norm(vector)


def _inchikey(rng: np.random.Generator) -> str:
    letters = "".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), size=22))
    return f"{letters[:14]}-{letters[14:]}SA-N"
