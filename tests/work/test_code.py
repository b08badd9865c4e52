"""The digest of code follows what can change a result, and nothing else."""

from importlib import metadata
from pathlib import Path

import pytest

from moascope.features.embed import _embed_one
from moascope.pixels.prepare import _prepare_one
from moascope.work import code
from moascope.work.code import LIBRARIES, Code, code_digest

FILES = {
    "__init__.py": "",
    "params.py": "class Params:\n    head: Head\n    crop: Crop\n\n"
                 "class Head:\n    width = 3\n\nclass Crop:\n    size = 9\n",
    "errors.py": "class Problem(Exception):\n    pass\n",
    "rooms/__init__.py": "",
    "rooms/sums.py": '"""Sums."""\nimport numpy as np\nFEW = 3\nTABLE = {"two": FEW}\n\n'
                     'def total(values):\n    """Add."""\n    return half(np.sum(values))\n\n'
                     "def half(value):\n    return value / TABLE['two']\n\n"
                     "def unused():\n    return 1\n",
    "rooms/pages.py": "PAGE = 'page.jinja'\n\ndef page():\n    return PAGE\n",
    "rooms/page.jinja": "{% include 'look.css' %}",
    "rooms/look.css": "p {}",
    "rooms/effects.py": "from rooms_of.rooms import sums\n\nsums.TABLE['three'] = 4\n\n"
                        "def effect():\n    return 0\n",
    "stage.py": "from rooms_of.params import Params\n\n"
                "def run(params: Params):\n    from rooms_of.errors import Problem\n"
                "    from rooms_of.rooms.sums import total\n"
                "    if not params.head:\n        raise Problem\n    return total([1])\n\n"
                "def show():\n    from rooms_of.rooms import pages\n    return pages.page()\n\n"
                "def bare():\n    from rooms_of.rooms import sums\n    return sums\n\n"
                "def caught():\n    from rooms_of.rooms.effects import effect\n"
                "    return effect()\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "rooms_of" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "rooms_of"


def edited(package, name, old, new):
    path = package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def reach(package, function="run"):
    return Code(package).reach(f"stage:{function}").digests


@pytest.mark.parametrize(("file", "old", "new"), [
    ("rooms/sums.py", '"""Add."""\n', '"""Add the values."""\n    # all of them\n'),
    ("rooms/sums.py", '"""Sums."""', '"""Totals."""'),
    ("rooms/sums.py", "return half(np.sum(values))",
     "return half(\n        np.sum(values),\n    )"),
    ("rooms/sums.py", "def unused():\n    return 1", "def unused():\n    return 2"),
    ("errors.py", "pass", "x = 1"),
    ("params.py", "size = 9", "size = 8"),
    ("rooms/sums.py", "FEW = 3",
     "if TYPE_CHECKING:\n    from rooms_of.rooms import pages\nFEW = 3"),
])
def test_what_decides_no_result_changes_no_digest(package, file, old, new):
    before = reach(package)
    edited(package, file, old, new)
    assert reach(package) == before


@pytest.mark.parametrize(("file", "old", "new"), [
    ("rooms/sums.py", "np.sum", "np.mean"),
    ("rooms/sums.py", "value / TABLE", "value * TABLE"),
    ("rooms/sums.py", "FEW = 3", "FEW = 4"),
    ("params.py", "width = 3", "width = 4"),
    ("stage.py", "total([1])", "total([2])"),
    ("rooms/__init__.py", "", "print('at import')\n"),
])
def test_what_can_change_a_result_changes_the_digest_of_its_module_alone(package, file, old, new):
    before = reach(package)
    edited(package, file, old, new)
    after = reach(package)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")}


def test_files_of_the_package_belong_to_who_names_them(package):
    assert {"rooms/page.jinja", "rooms/look.css"} <= set(reach(package, "show"))
    assert not {"rooms/page.jinja", "rooms/look.css"} & set(reach(package))


def test_a_module_as_a_value_could_be_anything_in_it(package):
    before = reach(package, "bare")
    edited(package, "rooms/sums.py", "return 1", "return 2")
    assert reach(package, "bare") != before


def test_what_an_import_does_belongs_to_every_definition_of_the_module(package):
    before = reach(package, "caught")
    edited(package, "rooms/effects.py", "= 4", "= 5")
    assert reach(package, "caught") != before


def test_libraries_are_found_through_the_functions_that_use_them(package):
    assert Code(package).reach("stage:run").libraries == {"numpy"}
    assert Code(package).reach("stage:show").libraries == frozenset()


def test_a_function_that_is_not_there_is_an_error(package):
    with pytest.raises(ValueError, match="stage:walk"):
        Code(package).reach("stage:walk")


@pytest.fixture(autouse=True)
def versions_are_asked_anew():
    """A process asks for each version once."""
    code._version.cache_clear()
    yield
    code._version.cache_clear()


@pytest.mark.parametrize("library", ["numpy", "scipy", "tifffile", "imagecodecs", "zarr"])
def test_another_version_of_a_library_prepares_plates_anew(library, monkeypatch):
    before = code_digest(_prepare_one)
    monkeypatch.setattr(code, "version", other_version(library))
    assert code_digest(_prepare_one) != before


@pytest.mark.parametrize("library", ["numpy", "scipy", "openvino", "keras", "tensorflow",
                                     "scikit-image", "mahotas"])
def test_another_version_of_a_library_embeds_plates_anew(library, monkeypatch):
    before = code_digest(_embed_one)
    monkeypatch.setattr(code, "version", other_version(library))
    assert code_digest(_embed_one) != before


def test_a_library_that_a_plate_does_not_need_leaves_it_alone(monkeypatch):
    before = code_digest(_prepare_one)
    monkeypatch.setattr(code, "version", other_version("keras"))
    assert code_digest(_prepare_one) == before


def other_version(changed):
    code._version.cache_clear()
    return lambda name: "0.0.0" if name == changed else metadata.version(name)


def test_every_library_that_decides_numbers_is_looked_up_by_a_name_that_exists():
    for names in LIBRARIES.values():
        for name in names:
            assert metadata.version(name)


def test_every_file_that_a_stage_reads_from_the_package_is_watched():
    """Beside those of commands that are not stages: local pages and new projects."""
    package = Path(code.__file__).parents[1]
    own = Code(package)
    watched = {name for path in (package / "stages").glob("*.py")
               if path.stem not in ("__init__", "run", "code")
               for name in own.reach(f"stages.{path.stem}:{path.stem}").digests}
    files = {path.relative_to(package).as_posix() for path in package.rglob("*")
             if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {name for name in files - watched
            if name.split("/")[0] not in ("annotation", "exploring", "project")} == {"py.typed"}
    # A file is known by its name alone.
    assert len({Path(name).name for name in files}) == len(files)
