# ruff: noqa: B018, E402
# %% [markdown]
# # moascope in a notebook
#
# This runs in the folder of a project whose pipeline has run: `make run` in a clone, or
# `dvc repro register` after `moascope init`. Here it is the simulated screen, on which scores prove
# the software and say nothing about biology. Nothing is written to the project.

# %%
import moascope

screen = moascope.read_screen("data/acquire")
screen

# %% [markdown]
# A screen is three tables: `screen.sites`, `screen.layout` and `screen.annotations`. Where there is
# none yet, `moascope.import_plates("/plates/run7", "screens/run7").screen` makes one from a
# microscope's folder, and `moascope.simulate_screen("simulated")` draws one.
#
# ## Features
#
# One row per site. What starts with `Metadata_` describes it, and every other column is a feature.
# `read_features` takes what the pipeline computed. Without a project,
# `moascope.extract_features(screen, "morphology")` computes them from the images of any screen.

# %%
features = moascope.read_features("data/embed", screen)
features.iloc[:4, [0, 1, 2, 5, 6, 7, 10, 11, -1]]

# %%
ax = moascope.plot_plate(features, "Count_Nuclei")

# %% [markdown]
# ## Folds
#
# Compounds are assigned to folds, so that no compound is predicted by a model that saw it. A fifth
# of them is held out for the promotion gate and stays untouched here.

# %%
folds = moascope.make_folds(screen, features, "gpcr")
folds

# %%
folds.groups.drop(columns="Metadata_Group").head(4)

# %% [markdown]
# scikit-learn takes the same folds. This is average precision over sites, which counts a compound
# as often as it was imaged; the scores below are over compounds.

# %%
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

X = features.loc[:, ~features.columns.str.startswith("Metadata_")]
cross_val_score(RandomForestClassifier(random_state=0), X, folds.labels(features) == "gpcr",
                cv=list(folds.split(features)), scoring="average_precision").round(3)

# %% [markdown]
# ## Cross-validation
#
# Heads are trained on the frozen features, one per fold and repeat. Hyperparameters are those of
# the section `train` of params.yaml, as keywords or as a dict; `tuned="data/tune/tuned.yaml"` takes
# what the study chose for each fold. Calibration and threshold come from inner folds.

# %%
result = moascope.cross_validate(features, folds)
result

# %% [markdown]
# The most probable compounds, all of them unseen by the model that predicts them:

# %%
compounds = result.predictions["compound"].sort_values("P_gpcr", ascending=False)
compounds[["Metadata_Compound", "P_gpcr", "Predicted", "Label"]].head(6)

# %%
ax = moascope.plot_plate(result.predictions["well"], "P_gpcr")

# %% [markdown]
# ## Scores next to their nulls
#
# Average precision over compounds, with a 95 % bootstrap interval and a permutation p, next to what
# sees no biology.

# %%
evaluation = moascope.evaluate(result)
evaluation.table.round(3)

# %%
ax = moascope.plot_comparison(evaluation)

# %%
ax = moascope.plot_precision_recall(evaluation)

# %% [markdown]
# Every figure goes on axes of your own too.

# %%
from matplotlib import pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
moascope.plot_reliability(evaluation, ax=left)
ax = moascope.plot_precision_recall(evaluation, ax=right)

# %% [markdown]
# ## What the heads look at
#
# What is lost on unseen compounds, if all features of one channel are those of the plate's negative
# controls: the heads are not trained again, so this is what they use, and not all that could be
# known. [why.md](why.md) says how to read it.

# %%
moascope.explain(result).loc["channel"].round(3)

# %% [markdown]
# ## A registered model on a new screen
#
# A model brings its own preparation and backbone: a screen is all it needs. This one is drawn with
# another seed.

# %%
import tempfile

new = moascope.simulate_screen(tempfile.mkdtemp(), seed=1, format=96, compounds=24, fields=1,
                               panels=sorted(screen.sites["Metadata_Panel"].unique()))
model = moascope.load_model("models:/moascope@candidate")
wells = model.predict(new, level="well")
wells[["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "P_gpcr", "Predicted"]].head(4)
