"""Controls in plate maps: the words for them, and vehicles that nobody marked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from moascope.screen.columns import plain
from moascope.screen.vehicles import is_vehicle, may_be_control, names_a_vehicle
from moascope.text import counted, listing

_CONTROL_WORDS = {
    **dict.fromkeys((
        "negative", "neg", "negcon", "negctrl", "negctl", "negcontrol", "negativecontrol",
        "negativectrl", "nc", "vehicle", "vehiclecontrol", "solvent", "solventcontrol", "dmso",
        "dmsocontrol", "untreated", "untreatedcontrol", "mock", "lowcontrol", "ctlvehicle",
        "ctluntrt", "untrt", "ctlvector", "neutral", "neutralcontrol", "zpe", "negativ",
        "negativkontrolle", "negatif", "temoinnegatif", "controlenegatif", "negativo",
        "controlnegativo", "controlenegativo", "controllonegativo"), "negative"),
    **dict.fromkeys((
        "positive", "pos", "poscon", "posctrl", "posctl", "poscontrol", "positivecontrol",
        "positivectrl", "pc", "highcontrol", "poscondiverse", "posconcp", "posconorf",
        "reference", "referencecompound", "hpe", "positiv", "positivkontrolle", "positif",
        "temoinpositif", "controlepositif", "positivo", "controlpositivo", "controlepositivo",
        "controllopositivo"), "positive"),
    **dict.fromkeys((
        "", "none", "no", "na", "nan", "n", "false", "0", "sample", "samples", "compound",
        "compounds", "trt", "trtcp", "treatment", "treated", "test", "testcompound", "drug",
        "empty", "unused", "cpd", "cmpd", "smp", "unknown", "unk", "probe", "substanz"), ""),
}
# Whether the well is a control, and not which: its compound decides.
_CONTROL_OF_A_KIND = {"control", "controls", "ctrl", "ctl", "con", "yes", "y", "true", "1", "x",
                      "blank", "c", "kontrolle", "temoin", "controle", "controllo"}
_SIGNED = re.compile(r"(?:c|ctrl|ctl|con|control|k|kontrolle)?[\s_]*([+-])|"
                     r"([+-])[\s_]*(?:c|ctrl|ctl|con|control|k|kontrolle)", re.IGNORECASE)


def control_word(word: str, compound: str, solvent: str = "") -> str | None:
    """The kind of control that a cell states of a well; None where it cannot be told."""
    if signed := _SIGNED.fullmatch(word.strip().replace("\u2212", "-")):
        # A dash alone says that there is nothing to say, a plus alone that it is some control.
        if len(word.strip()) == 1:
            return "" if signed[1] == "-" else None
        return "positive" if (signed[1] or signed[2]) == "+" else "negative"
    text = plain(word)
    # The first or the second positive control: Pos1, poscon_2.
    text = text if text in _CONTROL_WORDS else re.sub(r"(?<=[a-z])[0-9]{1,3}$", "", text)
    if text in _CONTROL_WORDS:
        return _CONTROL_WORDS[text]
    if is_vehicle(word):
        return "negative"
    if text in _CONTROL_OF_A_KIND:
        name = compound or solvent
        if not name or is_vehicle(name) or may_be_control(name):
            return "negative"
    return None


def mark_vehicles(wells: Sequence[dict[str, str]], name: str) -> list[str]:
    """Mark wells of DMSO or vehicle as negative controls where a table marks none, and say so.

    Returns
    -------
    list of str
        Which wells were marked, which look like controls and were not, or that there are none.
    """
    if not any("Metadata_Compound" in well for well in wells):
        return []
    positive = [well for well in wells if well.get("Metadata_Control") == "positive"
                and is_vehicle(well.get("Metadata_Compound", ""))]
    notes = [f"{name} marks {counted(len(positive), 'well')} of {_names(positive)} as positive "
             "controls. Correct the column Control if they are negative."] if positive else []
    marks_some = any(well.get("Metadata_Control") == "negative" for well in wells)
    open_ = [well for well in wells if not well.get("Metadata_Control")]
    sure = [well for well in open_ if is_vehicle(well.get("Metadata_Compound", ""))]
    perhaps = [well for well in open_ if may_be_control(well.get("Metadata_Compound", ""))]
    alike = [well for well in open_ if names_a_vehicle(well.get("Metadata_Compound", ""))]
    if marks_some:
        alike = sure + perhaps + alike
        if not alike:
            return notes
        return [*notes, f"{name} marks other wells as negative controls, but not "
                f"{counted(len(alike), 'well')} of {_names(alike)}, which count as compounds. Mark "
                "them in the column Control if they are controls."]
    marked = sure or perhaps
    for well in marked:
        well["Metadata_Control"] = "negative"
    if not marked:
        empty = sum(not well.get("Metadata_Compound") for well in open_)
        without = f"; {counted(empty, 'well')} without a compound stay empty" if empty else ""
        return [*notes, f"{name} marks no negative controls and names no DMSO or vehicle{without}. "
                "Write negative in a column Control, or the solvent as the compound, if there are "
                "any."]
    notes += [f"{name} marks no controls; {counted(len(marked), 'well')} of {_names(marked)} used "
             "as negative controls."]
    others = (perhaps if sure else []) + alike
    if others:
        notes.append(f"{name} has {counted(len(others), 'well')} of {_names(others)}, which "
                     "count as compounds. Mark them in the column Control if they are controls.")
    return notes


def _names(wells: Sequence[Mapping[str, str]]) -> str:
    return listing(sorted({well["Metadata_Compound"] for well in wells}))
