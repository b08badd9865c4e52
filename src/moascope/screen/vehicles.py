"""Names of wells that hold the solvent alone, however people write them."""

from __future__ import annotations

import re
import unicodedata

_SURE = frozenset({"dmso", "dimethylsulfoxide", "dimethylsulphoxide", "dmsod6", "vehicle",
                   "solvent", "negcon", "negativecontrol", "negctrl", "vehiclecontrol",
                   "solventcontrol", "negcontrol", "negativectrl", "carrier"})
_MAYBE = frozenset({"untreated", "untreatedcontrol", "mock", "mocktreated", "notreatment",
                    "nocompound", "nodrug", "control", "ctrl", "blank", "medium", "media",
                    "mediaonly", "mediumonly", "growthmedium", "water", "h2o", "pbs", "saline",
                    "buffer", "ethanol", "etoh", "methanol", "meoh", "nt", "ut", "unt",
                    "cellsonly", "nacl"})
# What may stand beside the solvent without making another substance of it.
_FILLING = frozenset({"control", "ctrl", "con", "only", "alone", "vehicle", "solvent", "negative",
                      "neg", "in", "medium", "media", "water", "pbs", "v", "vv", "w", "vol",
                      "volume", "final", "percent", "pct", "well", "wells", "treated", "treatment",
                      "low", "high", "mock", "dmem", "rpmi", "and", "with", "plus", "the",
                      "sample", "dmso"})
_PARTS = re.compile(r"[a-z]+[0-9]*[a-z]*|[0-9.,]+")
_DIMETHYL = re.compile(r"(?:di|bis)?\s*-?\s*methyl\s*-?\s*sul(?:ph|f)oxid(?:e|um)?")
_FORMULA = re.compile(r"\(ch3\)2so\b|c2h6os\b|\b67-68-5\b|\bme2so\b|\bdmso[-_ ]?d6\b")


def is_vehicle(name: str) -> bool:
    """Whether a name is DMSO or a word for the vehicle: "DMSO 0.1%", "Dimethyl sulfoxide"."""
    words = _words(name)
    if "".join(words) in _SURE:
        return True
    return any(word in _SURE for word in words) and all(
        word in _SURE or word in _FILLING for word in words)


def may_be_control(name: str) -> bool:
    """Whether a name may stand for wells without a compound: "untreated", "PBS", "control"."""
    words = [word for word in _words(name) if word not in ("only", "alone", "in", "control")]
    return "".join(_words(name)) in _MAYBE or (bool(words) and "".join(words) in _MAYBE)


def _words(name: str) -> list[str]:
    """The words of a name without numbers, so without the share of the solvent."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = _FORMULA.sub("dmso", _DIMETHYL.sub(" dmso ", text))
    # DMSO_1 and DMSO1 are the first well or lot of DMSO.
    return [re.sub(r"^(dmso|vehicle|negcon|control|ctrl)[0-9]+$", r"\1", word)
            for word in _PARTS.findall(text.replace("_", " ")) if not word[0].isdigit()
            and word[0] not in ".,"]
