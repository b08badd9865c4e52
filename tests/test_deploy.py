"""What deploy/ says agrees with the package, its locks and its commands."""

import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from moascope.cli.app import app
from moascope.serving.serve import GRACE

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.fixture
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def kubernetes(name):
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def parsed(command):
    """The parameters of a moascope command, as its own parser reads them."""
    name, *arguments = command
    group = typer.main.get_command(app)
    own = group.commands[name]
    return own.make_context(name, list(arguments)).params


def entry_point():
    return yaml.safe_load(re.search(r'^ENTRYPOINT (\["moascope".*\])$', DOCKERFILE, re.M)[1])[1:]


def test_every_image_of_compose_is_a_target_of_the_dockerfile(compose):
    targets = set(re.findall(r"^FROM .* AS (\S+)$", DOCKERFILE, re.M))
    built = {service["build"]["target"] for service in compose.values() if "build" in service}
    assert built == {"serve", "train"} <= targets


def test_the_build_gets_every_file_that_the_package_is_made_of():
    let_through = {line[1:] for line in
                   (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
                   if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {*included, "pyproject.toml", "README.md", "LICENSE", "src",
            "requirements.lock", "requirements-serve.lock"} == let_through
    assert all((ROOT / name).exists() for name in let_through)


def test_images_use_the_versions_of_the_project():
    assert re.search(r"uv==[\d.]+", DOCKERFILE)[0] in (ROOT / "Makefile").read_text()
    (cluster,) = kubernetes("raycluster.yaml")
    assert f"ray=={cluster['spec']['rayVersion']} \\\n" in (ROOT / "requirements.lock").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"]
    assert set(re.search(r"\.\[(.*)\]'", DOCKERFILE)[1].split(",")) <= set(extras)


def test_servers_in_containers_are_started_with_options_that_there_are(compose):
    (deployment, *_) = kubernetes("serve.yaml")
    pod = deployment["spec"]["template"]["spec"]
    for arguments in compose["serve"]["command"], pod["containers"][0]["args"]:
        said = parsed([*entry_point(), *arguments])
        assert (said["host"], said["port"], said["screens"]) == ("0.0.0.0", 5000, Path("/screens"))
        assert said["model"] == "models:/moascope@staging"
    assert "data" in parsed(compose["worker"]["command"][1:])


def test_a_pod_outlives_the_grace_of_its_server():
    (deployment, *_) = kubernetes("serve.yaml")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > GRACE


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflow_knows_the_options_of_its_server(compose):
    from mlflow.cli import server

    command, name, *options = compose["mlflow"]["command"]
    assert (command, name) == ("mlflow", "server")
    known = {option for parameter in server.params for option in parameter.opts}
    assert {option.partition("=")[0] for option in options} <= known


def test_no_service_is_reached_from_elsewhere_without_a_proxy(compose):
    published = [port for service in compose.values() for port in service.get("ports", [])]
    assert published and all(port.startswith("127.0.0.1:") for port in published)
