"""Names of wells that hold the solvent alone, however people write them."""

from __future__ import annotations

import re
import unicodedata

from moascope.screen.lookalikes import latin, without_marks

_SURE = frozenset({"dmso", "dimethylsulfoxide", "dimethylsulphoxide", "dmsod6", "vehicle",
                   "solvent", "negcon", "negativecontrol", "negctrl", "vehiclecontrol",
                   "solventcontrol", "negcontrol", "negativectrl", "carrier", "veh", "vehctrl",
                   # German, French, Spanish, Portuguese, Italian
                   "vehikel", "vehikelkontrolle", "losungsmittel", "losungsmittelkontrolle",
                   "losemittel", "losemittelkontrolle", "negativkontrolle", "vehicule", "solvant",
                   "temoinnegatif", "controlenegatif", "vehiculo", "disolvente", "solvente",
                   "controlnegativo", "controlenegativo", "veicolo", "controllonegativo"})
# DMSO in JUMP: github.com/jump-cellpainting/datasets.
_JUMP = "jcp2022_033924"
_MAYBE = frozenset({"untreated", "untreatedcontrol", "mock", "mocktreated", "notreatment",
                    "nocompound", "nodrug", "control", "ctrl", "blank", "medium", "media",
                    "mediaonly", "mediumonly", "growthmedium", "water", "h2o", "pbs", "saline",
                    "buffer", "ethanol", "etoh", "methanol", "meoh", "nt", "ut", "unt",
                    "cellsonly", "untreatedcells", "nacl", "acetone", "dmf",
                    "unbehandelt", "unbehandeltekontrolle", "kontrolle", "wasser", "puffer",
                    "nontraite", "nontraitee", "temoin", "controle", "eau", "tampon", "milieu",
                    "sintratar", "sintratamiento", "agua", "medio", "naotratado", "meio",
                    "nontrattato", "controllo", "acqua"})
# What may stand beside the solvent without making another substance of it.
_FILLING = frozenset({"control", "ctrl", "con", "only", "alone", "vehicle", "solvent", "negative",
                      "neg", "in", "medium", "media", "water", "pbs", "v", "vv", "w", "vol",
                      "volume", "final", "percent", "pct", "well", "wells", "treated", "treatment",
                      "low", "high", "mock", "dmem", "rpmi", "and", "with", "plus", "the",
                      "sample", "dmso", "rep", "replicate", "lot", "batch", "ctl", "kontrolle",
                      "deuterated", *"abcdefgh"})
_PARTS = re.compile(r"[a-z]+[0-9]*[a-z]*|[0-9.,]+")
_DIMETHYL = re.compile(r"(?:di|bis)?\s*-?\s*met(?:h?yl|il)\s*-?\s*s[uo]l(?:ph|f)(?:ox[iy]d|ossid)"
                       r"(?:e|um|o)?")
_FORMULA = re.compile(r"\(ch3\)2so\b|c2h6os\b|\b67-68-5\b|\bme2so\b|\bdmso[-_ ]?d6\b"
                      r"|\bsulfinylbismethane\b|дмсо|二甲基亚砜|二甲基亞碸|ジメチルスルホキシド")


def is_vehicle(name: str) -> bool:
    """Whether a name is DMSO or a word for the vehicle: "DMSO 0.1%", "Dimethyl sulfoxide"."""
    words = _words(name)
    if "".join(words) in _SURE or name.strip().casefold() == _JUMP:
        return True
    return any(word in _SURE for word in words) and all(
        word in _SURE or word in _FILLING for word in words)


def may_be_control(name: str) -> bool:
    """Whether a name may stand for wells without a compound: "untreated", "PBS", "control"."""
    words = [word for word in _words(name) if word not in ("only", "alone", "in", "control")]
    return "".join(_words(name)) in _MAYBE or (bool(words) and "".join(words) in _MAYBE)


def names_a_vehicle(name: str) -> bool:
    """Whether a name has DMSO or vehicle in it and may yet be of another substance."""
    words = _words(name)
    return ("dmso" in words or "vehicle" in words) and "in" not in words and not is_vehicle(name)


def _words(name: str) -> list[str]:
    """The words of a name without numbers, so without the share of the solvent."""
    text = latin(without_marks(unicodedata.normalize("NFKC", name))).casefold()
    text = _FORMULA.sub("dmso", _DIMETHYL.sub(" dmso ", text))
    # DMSO_1 and DMSO1 are the first well or lot of DMSO.
    return [re.sub(r"^(dmso|vehicle|negcon|control|ctrl)[0-9]+$", r"\1", word)
            for word in _PARTS.findall(text.replace("_", " ")) if not word[0].isdigit()
            and word[0] not in ".,"]
