"""The parameters of params.yaml, one frozen typed object per section."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from moascope.passwords import holds_password

Fraction = Annotated[float, Field(ge=0, le=1)]
TUNED = "tuned"
KERAS_FILE = ".keras"
# The kind of problem whose input must not be shown.
SECRET = "secret"


class Section(BaseModel):
    """A section of params.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Acquire(Section):
    """Where the screen comes from."""

    source: Literal["simulated", "folder", "gallery", "idr0088", "bbbc021", "bbbc013",
                    "bbbc016"] = "simulated"
    path: str = "screen"
    more: tuple[str, ...] = ()
    allow_outside: bool = False
    downloads: Annotated[str, Field(min_length=1)] = "data/downloads"
    images: Literal["reference", "copy"] = "reference"
    max_gb: Annotated[float, Field(gt=0)] = 100.0
    max_missing: Fraction = 0.05
    parallel: Annotated[int, Field(ge=1, le=8)] = 3
    per_second: Annotated[float, Field(gt=0)] = 5.0
    attempts: Annotated[int, Field(ge=1)] = 6
    timeout: Annotated[float, Field(gt=0)] = 30.0

    @field_validator("more", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _only_folders_are_joined(self) -> Acquire:
        if self.more and self.source != "folder":
            raise PydanticCustomError(
                "more", "needs acquire.source: folder, because only folders are joined")
        return self


# A folder of a bucket; the rest of the address is ours.
_Folder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][^/?#@\\]*$")]


class Gallery(Section):
    """Which part of the Cell Painting Gallery is brought in; see `moascope.sources.gallery`."""

    # Plates may be barcodes, which YAML takes for numbers.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    dataset: _Folder = "cpg0016-jump"
    source: _Folder | None = None
    batch: _Folder | None = None
    plates: tuple[str, ...] = ()
    compounds: tuple[str, ...] = ()
    wells: tuple[str, ...] = ()
    sites: tuple[Annotated[int, Field(ge=0)], ...] = ()
    channels: tuple[str, ...] = ("DNA", "ER", "RNA", "AGP", "Mito")
    plate_table: str | None = None
    well_table: str | None = None
    compound_table: str | None = None
    mechanisms: tuple[str, ...] = ()
    bucket: Annotated[str, Field(pattern=r"^(s3|gs)://[^?#@]+$")] = "s3://cellpainting-gallery"

    @field_validator("mechanisms", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


IDR_TABLES = "https://raw.githubusercontent.com/IDR/idr0088-cox-phenomicprofiling/HEAD/screenA/"
BBBC = "https://data.broadinstitute.org/bbbc/"


class Idr0088(Section):
    """Which part of idr0088 is brought in; see `moascope.sources.idr0088`."""

    # Plates are barcodes, which YAML takes for numbers.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    preset: Literal["slides", "honest"] | None = None
    plates: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    compounds: tuple[str, ...] = ()
    wells: tuple[str, ...] = ()
    fields: tuple[Annotated[int, Field(ge=1)], ...] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    rendered: bool = False
    annotation: str = IDR_TABLES + "idr0088-screenA-annotation.csv.zip"
    files: str = "https://ftp.ebi.ac.uk/pub/databases/IDR/"
    web: str = "https://idr.openmicroscopy.org/"


class Bbbc021(Section):
    """Which part of BBBC021 is brought in; see `moascope.sources.bbbc021`."""

    plates: tuple[str, ...] = ()
    treatments: Literal["annotated", "all"] = "annotated"
    keep_archives: bool = False
    files: str = BBBC + "BBBC021/"


class Bbbc013(Section):
    """One plate of translocation; see `moascope.sources.bbbc`."""

    compounds: tuple[Literal["wortmannin", "LY294002"], ...] = ("wortmannin",)
    files: str = BBBC + "BBBC013/"


class Bbbc016(Section):
    """One plate of a GPCR assay; see `moascope.sources.bbbc`."""

    files: str = BBBC + "BBBC016/"


# What each preset of the simulated screen stands for; see docs/simulated.md.
SIMULATED_PRESETS = {
    "teaching": {"signal": 2.0, "shared_gpcr": 4.5},
    "literature": {"signal": 2.0, "shared_gpcr": 0.0},
    "null": {"signal": 0.0, "shared_gpcr": 0.0},
}


class Simulated(Section):
    """The simulated screen; see `moascope.sources.simulated`.

    `signal` and `shared_gpcr` are those of the preset unless they are given.
    """

    preset: Literal["teaching", "literature", "null"] = "teaching"
    signal: Annotated[float, Field(ge=0)] = SIMULATED_PRESETS["teaching"]["signal"]
    shared_gpcr: Annotated[float, Field(ge=0)] = SIMULATED_PRESETS["teaching"]["shared_gpcr"]
    format: Literal[96, 384] = 384
    compounds: Annotated[int, Field(ge=1)] = 140
    batches: Annotated[int, Field(ge=1)] = 2
    panels: tuple[str, ...] = ("A549 ACTB-RAB5A", "HepG2 TUBA1B-RELA")
    fields: Annotated[int, Field(ge=1)] = 2
    size: Annotated[int, Field(ge=64)] = 128
    dmso: Literal["edge", "scattered", "both"] = "edge"
    faults: bool = True

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", "teaching")
        # YAML reads the bare word null as nothing.
        preset = "null" if preset is None else preset
        filled = given | {"preset": preset}
        known = SIMULATED_PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        for name, value in known.items():
            if filled.get(name) is None:
                filled[name] = value
        return filled


class Validate(Section):
    """What stops a run and what is only reported."""

    max_quarantined: Fraction = 0.1
    max_saturated: Fraction = 0.01
    min_negative_controls: Annotated[int, Field(ge=0)] = 4


class Prepare(Section):
    """From 16-bit planes to comparable 8-bit crops."""

    crop: Annotated[int, Field(ge=32, le=1024)] = 128
    crops: Annotated[int, Field(ge=1, le=64)] = 4
    flat_field: bool = True
    scale: Literal["auto", "plate", "range"] = "auto"
    low_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.1
    high_percentile: Annotated[float, Field(gt=50, le=100)] = 99.9
    nuclei: str = "auto"


BACKBONES = ("cellmobile", "morphology", "profiles", "mobilenetv2", "resnet50")
WITHOUT_NETWORK = ("morphology", "profiles")


class Embed(Section):
    """From crops to vectors.

    `backbone` is one of `BACKBONES`, the path of a user's own Keras model (`.keras`), or several
    of them joined by `+`; `profiles` are features that come with the screen. `weights` is a file,
    or a file for each backbone that needs one.
    `turns` is in how many positions a network sees each crop; its features are their mean.
    """

    backbone: str = "cellmobile"
    weights: str | dict[str, str] | None = None
    precision: Literal["f32", "bf16"] = "f32"
    turns: Literal[1, 4, 8] = 4

    @field_validator("backbone")
    @classmethod
    def _check_backbone(cls, value: str) -> str:
        parts = [part.strip() for part in value.split("+")]
        for part in parts:
            if part not in BACKBONES and not part.endswith(KERAS_FILE):
                raise ValueError(f"'{part}' is not a backbone; choose among "
                                 f"{', '.join(BACKBONES)}, a Keras model file (*{KERAS_FILE}), "
                                 "or several joined by +")
        if len(set(parts)) < len(parts):
            raise ValueError("a backbone is named twice")
        return "+".join(parts)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbones, each by itself."""
        return tuple(self.backbone.split("+"))


# Two folds are left out at a time, and a model must learn from what remains.
LEAST_FOLDS = 3


class Split(Section):
    """Which compounds are predicted by a model that never saw them."""

    folds: int = 5
    repeats: Annotated[int, Field(ge=1)] = 2
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    group: Literal["compound", "scaffold", "cluster"] = "compound"

    @field_validator("folds")
    @classmethod
    def _leave_a_fold_to_learn_from(cls, folds: int) -> int:
        if folds < LEAST_FOLDS:
            raise ValueError(
                f"settings are chosen by models that leave out two folds at a time, so at least "
                f"{LEAST_FOLDS} folds are needed; use split.folds={LEAST_FOLDS} or more")
        return folds


class Activity(Section):
    """Which compounds look unlike the negative controls; see `moascope.evaluation.activity`."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.05
    null_size: Annotated[int, Field(ge=100)] = 1000
    normalisation: Literal["plate", "plate+sphere"] = "plate"


Kind = Literal["network", "logistic", "neighbours", "trees"]
HEADS = get_args(Kind)
NETWORK = "network"


class Head(Section):
    """Hyperparameters of the classification head, all with a value.

    The defaults are safe where little is known: a linear model with an L2 penalty, which a
    few dozen compounds can carry, of one row per compound.
    """

    head: Kind = "network"
    layers: Annotated[int, Field(ge=0, le=4)] = 0
    width: Annotated[int, Field(ge=1)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh"] = "relu"
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    l2: Annotated[float, Field(ge=0)] = 0.01
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalisation: Literal["none", "plate", "plate+sphere", "moderated",
                           "moderated+sphere"] = "plate"
    selection: Literal["none", "measured", "distinct"] = "none"
    backbone: Annotated[str, Field(min_length=1)] = "all"
    level: Literal["site", "well", "compound"] = "compound"
    epochs: Annotated[int, Field(ge=1)] = 40

    def described(self) -> dict[str, Any]:
        """The hyperparameters that this kind of head has."""
        return self.model_dump(include=None if self.head == "network" else OF_EVERY_HEAD)


# What a simple model in the network's place has: its rows and their features.
OF_EVERY_HEAD = {"head", "normalisation", "selection", "backbone", "level"}


class Tune(Section):
    """The Optuna study."""

    trials: Annotated[int, Field(ge=0)] = 12
    pruner: Literal["median", "hyperband", "none"] = "median"
    storage: str | None = None
    space: dict[str, Any] = Field(default_factory=dict)

    @field_validator("storage")
    @classmethod
    def _without_password(cls, address: str | None) -> str | None:
        # Git, DVC and MLflow keep what is written here, for everybody to read.
        if address and holds_password(address):
            raise PydanticCustomError(SECRET, (
                "tune.storage contains a password, which must not be in params.yaml. Take it "
                "out of here and give the whole address in the environment variable "
                "MOASCOPE_STORAGE, or leave the password to PGPASSWORD or ~/.pgpass."))
        return address


class FineTune(Section):
    """Training the last blocks of the backbone; see `moascope.finetuning.network`."""

    blocks: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 5
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    batch_size: Annotated[int, Field(ge=1)] = 16
    gain: Annotated[float, Field(ge=0, lt=1)] = 0.2
    precision: Literal["f32", "bf16"] = "f32"


def _or_tuned(section: type[Section]) -> type[Section]:
    """The fields of a section, each of them a value or the word `tuned`, which is the default."""
    fields: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        value: Any = field.annotation
        if field.metadata:
            value = Annotated[value, *field.metadata]
        # Where any word is a value, `tuned` is one already.
        fields[name] = (value if field.annotation is str else Literal["tuned"] | value, TUNED)
    return create_model("Tunable", __base__=Section, **fields)


class Train(_or_tuned(Head)):
    """The head that is trained: each hyperparameter is a value, or `tuned`: the study's choice."""

    head: Literal["tuned"] | Kind = "network"
    batch_size: Annotated[int, Field(ge=1)] = 128
    panels: Literal["pooled", "separate"] = "separate"
    coverage: Annotated[float, Field(ge=0.5, le=0.99)] = 0.9
    novelty_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    fine_tune: FineTune | None = None


class Evaluate(Section):
    """How much resampling the published numbers rest on."""

    bootstraps: Annotated[int, Field(ge=10)] = 1000
    permutations: Annotated[int, Field(ge=10)] = 1000
    refits: Annotated[int, Field(ge=0)] = 5


class Register(Section):
    """The name in the MLflow registry."""

    name: Annotated[str, Field(min_length=1)] = "moascope"


GateBaseline = Literal["position_only", "plate_only", "cell_count", "count_and_intensity",
                       "chemistry", "chemistry_simple"]


class Promote(Section):
    """The gate to staging and production: what a model shows on the held-out compounds."""

    least_average_precision: Fraction = 0.0
    least_lift: Annotated[float, Field(ge=0)] = 1.5
    max_p: Fraction = 0.05
    beat: tuple[GateBaseline, ...] = (
        "position_only", "plate_only", "cell_count", "count_and_intensity")
    least_gain: Annotated[float, Field(ge=-1, le=1)] = 0.0
    max_worse: Fraction = 0.5
    resamples: Annotated[int, Field(ge=100)] = 2000


class Regularised(Section):
    """What the arm `regularised` adds to `scratch`."""

    l2: Annotated[float, Field(ge=0)] = 1e-3
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    gain: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Baseline(Section):
    """The systems of the slides, trained on images; see `moascope.slides.convnets`."""

    arms: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "scratch", "extra_conv", "extra_dense", "leaky_relu", "mobilenetv2", "resnet50",
        "regularised", "per_panel")
    size: Annotated[int, Field(ge=16)] = 48
    frozen_size: Annotated[int, Field(ge=32)] = 96
    sites: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    slope: Annotated[float, Field(ge=0)] = 0.2
    positive_weight: Annotated[float, Field(gt=0)] = 15.0
    regularised: Regularised = Regularised()
    weights: dict[Literal["mobilenetv2", "resnet50"], str | None] = Field(
        default_factory=lambda: {"mobilenetv2": None, "resnet50": None})


class Params(Section):
    """All of params.yaml."""

    target: str = "gpcr"
    seed: Annotated[int, Field(ge=0)] = 0
    acquire: Acquire = Acquire()
    simulated: Simulated = Simulated()
    gallery: Gallery = Gallery()
    idr0088: Idr0088 = Idr0088()
    bbbc021: Bbbc021 = Bbbc021()
    bbbc013: Bbbc013 = Bbbc013()
    bbbc016: Bbbc016 = Bbbc016()
    validate_: Validate = Field(default=Validate(), alias="validate")
    prepare: Prepare = Prepare()
    embed: Embed = Embed()
    split: Split = Split()
    activity: Activity = Activity()
    tune: Tune = Tune()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(default=Register(), alias="register")
    promote: Promote = Promote()
    baseline: Baseline = Baseline()
