"""Acquire, prepare and embed on machines of a cluster that share no files, and on one that is lost.

    python benchmarks/nodes.py          # as root, on Linux

Three nodes of Ray stand on this machine, each with a network of its own (a network namespace), a
file system of its own as far as it matters (empty ones lie over the project, the code, /tmp and
/dev/shm), a home and an environment of its own with a copy of moascope, and a limit of its own:
one processor for Ray, of which it gets a share (a cgroup). The images lie in a bucket (moto's
server) that answers after a while. The head of the cluster, which has the project and runs the
stages, makes no plates itself.

Prints the seconds of each stage on one, two and three nodes, and compares what the stages leave
with a run without Ray, byte by byte: also where a node is killed in the middle of a stage, once in
acquire and once in embed. In the end a node has other code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

BRIDGE, NETWORK, PORT = "moascope0", "10.211.0", 6399
HEAD = f"{NETWORK}.254"
RAY = ("-c", "from ray.scripts.scripts import main; main()")
STAGES = {
    "acquire": "--out data/acquire",
    "validate": "--screen data/acquire --out data/validate --report reports/validate",
    "prepare": "--screen data/acquire --validation data/validate --out data/prepare "
               "--report reports/prepare",
    "embed": "--prepared data/prepare --screen data/acquire --out data/embed",
}
SHOWN = ("acquire", "embed")
MADE = {"acquire": "data/.readings/plates", "embed": "data/embed/Morphology"}
"""Where plates appear while a stage runs."""
COMPARED = ("data/acquire", "data/prepare", "data/embed")


class Node:
    """A machine of the cluster; a context, at whose end it is gone."""

    def __init__(self, number: int, folder: Path, hidden: list[Path], share: float):
        self.name, self.address = f"moascope{number}", f"{NETWORK}.{number}"
        self.root, self.source, self.hidden = folder / self.name, folder / "src", hidden
        self.groups = [Path("/sys/fs/cgroup/cpu", self.name)] if Path(
            "/sys/fs/cgroup/cpu").is_dir() else [Path("/sys/fs/cgroup", self.name)]
        self.share = share

    def __enter__(self) -> Node:
        self.environment()
        self.network()
        group = self.groups[0]
        group.mkdir(exist_ok=True)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{int(self.share * 100_000)} 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text(f"{int(self.share * 100_000)}")
            (group / "cpu.shares").write_text("8192")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        with contextlib.suppress(OSError):
            self.groups[0].rmdir()
        quietly("ip", "netns", "del", self.name)

    def environment(self) -> None:
        """A Python that has the libraries of this one, and a copy of moascope."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.root / "venv"],
                       check=True)
        shutil.copytree(self.source, self.root / "site")
        packages = next((self.root / "venv/lib").iterdir()) / "site-packages"
        (packages / "own.pth").write_text("\n".join([str(self.root / "site"),
                                                     *site.getsitepackages()]))

    def network(self) -> None:
        quietly("ip", "netns", "del", self.name)
        host, inside = f"{self.name}a", f"{self.name}b"
        for command in (f"ip netns add {self.name}",
                        f"ip link add {host} type veth peer name {inside} netns {self.name}",
                        f"ip link set {host} master {BRIDGE} up",
                        f"ip -n {self.name} addr add {self.address}/24 dev {inside}",
                        f"ip -n {self.name} link set {inside} up",
                        f"ip -n {self.name} link set lo up"):
            subprocess.run(command.split(), check=True)

    def start(self, variables: dict[str, str]) -> None:
        """Join the cluster."""
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        covers = "\n".join(f"[ -d {path} ] && mount -t tmpfs none {path}" for path in self.hidden)
        script = (f"echo $$ > {self.groups[0]}/cgroup.procs\nhostname {self.name}\n"
                  f"mount --make-rprivate /\n{covers}\n"
                  f"mount -t tmpfs -o size=1g none /dev/shm\nmkdir -p /tmp\ncd {home}\n"
                  f'exec {self.root}/venv/bin/python "$@"')
        own = {key: value for key, value in variables.items()
               if key not in ("PYTHONPATH", "TMPDIR", "MOASCOPE_RAY")}
        with (self.root / "log").open("ab") as log:
            subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "--uts",
                 "bash", "-c", script, "-", *RAY, "start", f"--address={HEAD}:{PORT}",
                 f"--node-ip-address={self.address}", "--num-cpus=1",
                 "--object-store-memory=200000000", "--block"],
                env=own | {"HOME": str(home), "MOASCOPE_CACHE": str(home / "cache")},
                stdout=log, stderr=log)

    def kill(self) -> None:
        """End all its processes at once."""
        procs = self.groups[0] / "cgroup.procs"
        for _ in range(100):
            running = procs.read_text().split() if procs.exists() else []
            if not running:
                return
            for number in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=12)
    parser.add_argument("--wells", type=int, default=24)
    parser.add_argument("--delay", type=float, default=0.5, help="seconds until the bucket answers")
    parser.add_argument("--share", type=float, default=0.4, help="of a processor, for each node")
    settings = parser.parse_args()
    if os.geteuid():
        sys.exit("Network namespaces, mounts and cgroups need root.")
    # Not in /tmp, which nodes do not see.
    with (tempfile.TemporaryDirectory(dir="/var/tmp", prefix="moascope-") as folder, network()):
        demonstrate(Path(folder), settings)


def demonstrate(folder: Path, settings: argparse.Namespace) -> None:
    from buckets import bucket_server

    with bucket_server(HEAD) as bucket, contextlib.ExitStack() as stack:
        # The code may be edited meanwhile.
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.pyc"))
        project = make_project(folder / "project", bucket, settings)
        variables = {key: value for key, value in os.environ.items()
                     if not key.startswith(("AWS", "MLFLOW", "RAY"))} | {
            "AWS_ENDPOINT_URL": bucket.url, "PYTHONPATH": str(folder / "src"),
            "RAY_USAGE_STATS_ENABLED": "0", "MOASCOPE_CACHE": str(folder / "cache")}
        hidden = [project, folder / "src", ROOT / "src", Path("/tmp")]
        nodes = [stack.enter_context(Node(number, folder, hidden, settings.share))
                 for number in (1, 2, 3)]
        bucket.delay = settings.delay
        seconds, _ = run(project, variables)
        show("without Ray, two processes", seconds)
        expected = keep(project, folder / "expected")
        for count, lost in (1, {}), (2, {}), (3, {}), (3, {"acquire": nodes[1], "embed": nodes[2]}):
            with cluster(nodes[:count], variables, folder):
                seconds, kept = run(project, variables | {"MOASCOPE_RAY": f"{HEAD}:{PORT}"}, lost)
            show(f"{count} nodes" + ", one killed in each stage" * bool(lost), seconds,
                 kept=kept, same=same(expected, project))
        own = next((nodes[0].root / "site").rglob("crops.py"))
        own.write_text(own.read_text() + "\nOTHER = True\n")
        with cluster(nodes[:1], variables, folder):
            shutil.rmtree(project / "data")
            done = stage(project, "acquire", variables | {"MOASCOPE_RAY": f"{HEAD}:{PORT}"})
        print(f"a node with other code: status {done.returncode}\n{done.stderr.strip()}")


@contextlib.contextmanager
def network():
    """A bridge between this machine and its nodes."""
    quietly("ip", "link", "del", BRIDGE)
    for command in (f"ip link add {BRIDGE} type bridge", f"ip addr add {HEAD}/24 dev {BRIDGE}",
                    f"ip link set {BRIDGE} up"):
        subprocess.run(command.split(), check=True)
    try:
        yield
    finally:
        quietly("ip", "link", "del", BRIDGE)


@contextlib.contextmanager
def cluster(nodes: list[Node], variables: dict[str, str], folder: Path):
    """A head without processors, and nodes that have joined it."""
    # In /tmp: nodes have their sessions at the same path.
    with (tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as session,
          (folder / "head.log").open("ab") as log):
        head = subprocess.Popen(
            [sys.executable, *RAY, "start", "--head", f"--node-ip-address={HEAD}",
             f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false",
             "--object-store-memory=400000000", f"--temp-dir={session}", "--block"],
            env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            for node in nodes:
                node.start(variables)
            count = ("-c", f"import ray; ray.init(address='{HEAD}:{PORT}', logging_level='ERROR'); "
                     "print(int(ray.cluster_resources().get('CPU', 0)))")
            end = time.monotonic() + 240
            while True:
                said = subprocess.run([sys.executable, *count], env=variables, capture_output=True,
                                      text=True)
                if said.stdout.strip() == str(len(nodes)):
                    break
                if time.monotonic() > end:
                    raise RuntimeError(f"{said.stdout[-300:]}{said.stderr[-1500:]}")
                time.sleep(1)
            yield
        finally:
            for node in nodes:
                node.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def make_project(project: Path, bucket: Any, settings: argparse.Namespace) -> Path:
    """A screen whose images are in the bucket alone."""
    from helpers import edit_csv, make_screen

    screen = make_screen(project / "screen", plates=settings.plates, wells=settings.wells, sites=1,
                         size=256, compounds=8)
    bucket.put_folder(screen / "images", "images")
    table = pd.read_csv(screen / "load_data.csv")
    for channel in ("DNA", "Actin"):
        edit_csv(screen / "load_data.csv", **{
            f"Frame_{channel}": 0,
            f"FileName_{channel}": {row: f"s3://gallery/{name}"
                                    for row, name in table[f"FileName_{channel}"].items()}})
    shutil.rmtree(screen / "images")
    (project / "params.yaml").write_text(yaml.safe_dump({
        "acquire": {"source": "folder", "path": "screen", "allow_outside": True}, "target": "gpcr",
        "embed": {"backbone": "morphology"}}))
    return project


def run(project: Path, variables: dict[str, str], lost: dict[str, Node] | None = None,
        ) -> tuple[dict[str, float], dict[str, int]]:
    """All stages from nothing; seconds of each, and of which plates were there at each kill."""
    for name in ("data", "reports"):
        shutil.rmtree(project / name, ignore_errors=True)
    shutil.rmtree(variables["MOASCOPE_CACHE"], ignore_errors=True)
    seconds, kept = {}, {}
    for name in STAGES:
        begun = time.monotonic()
        killer = None
        if lost and name in lost:
            killer = threading.Thread(target=kill_in_the_middle,
                                      args=(project, name, lost[name], kept))
            killer.start()
        done = stage(project, name, variables)
        if killer:
            killer.join()
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        seconds[name] = time.monotonic() - begun
    return seconds, kept


def stage(project: Path, name: str, variables: dict[str, str]) -> Any:
    return subprocess.run([sys.executable, "-P", "-m", "moascope.cli", "stage", name,
                           *STAGES[name].split()], cwd=project, env=variables, text=True,
                          capture_output=True)


def kill_in_the_middle(project: Path, name: str, node: Node, kept: dict[str, int]) -> None:
    """Kill a node once a quarter of the plates are made."""
    out = project / MADE[name]
    while (made := sum(1 for path in out.glob("*/key.txt") if path.parent.name[0] != ".")) < 3:
        time.sleep(0.05)
    # Not while it waits for its next plate.
    time.sleep(1)
    node.kill()
    kept[name] = made


def keep(project: Path, folder: Path) -> Path:
    for name in COMPARED:
        shutil.copytree(project / name, folder / name)
    return folder


def same(expected: Path, project: Path) -> str:
    differ = ["diff", "-r", "--brief"]
    said = [subprocess.run([*differ, expected / name, project / name], capture_output=True,
                           text=True).stdout for name in COMPARED]
    return "".join(said) or f"diff -r of {', '.join(COMPARED)}: the same"


def show(what: str, seconds: dict[str, float], **told: Any) -> None:
    times = ", ".join(f"{name} {seconds[name]:.0f} s" for name in SHOWN)
    if killed := told.pop("kept", {}):
        what += f" (after {', '.join(f'{n} plates of {name}' for name, n in killed.items())})"
    print(f"{what}: {times}" + "".join(f"; {value}" for value in told.values()), flush=True)


def quietly(*command: str) -> None:
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
