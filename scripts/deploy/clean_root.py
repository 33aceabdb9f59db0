"""Runs the steps of the Dockerfile in roots of their own, where there is no Docker.

    python3 scripts/deploy/clean_root.py --base /tmp/bookworm --work /tmp/roots [--until builder]
        [--arg NAME=VALUE] [--bind /opt/wheels] [--cache ~/.cache/medllm] [--model DIR]

`--base` is a folder that debootstrap made; without one there it is made, with Debian's Python in
the place of the one that the image has. Each stage is a copy of its base in `--work`; its steps are
run by chroot, as root, in a mount namespace of their own. What `--bind` names is seen inside at the
same place, for wheels of this machine; `--cache` is copied to medllm's cache before the first step,
so that llama.cpp need not be compiled again. With `--model` the server is started in the last root
with the command of the image, asked by its health check, and ended. What is not run: EXPOSE and
VOLUME, which only say something, and whatever of Docker itself is between the steps.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[2]
INCLUDED = "ca-certificates,python3,python3-venv,python3-dev"
SUITE = "bookworm"
TOLD = {"EXPOSE", "VOLUME"}


@dataclass
class Stage:
    """A root, and what its next step finds."""

    name: str
    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def enter(self, command: list[str], args: Mapping[str, str]) -> list[str]:
        """The command, run inside."""
        environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "DEBIAN_FRONTEND": "noninteractive", **args, **self.environ}  # fmt: skip
        home = f"/home/{self.user}" if self.user != "root" else "/root"
        told = [f"{name}={value}" for name, value in {"HOME": home, **environ}.items()]
        inside = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        user = f"{self.user}:{self.user}"
        return ["chroot", f"--userspec={user}", str(self.root), "env", "-i", *told, "sh", "-c",
                inside]  # fmt: skip


def read_steps(text: str) -> Iterator[tuple[str, str]]:
    """The steps of a Dockerfile, each on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def filled(text: str, known: Mapping[str, str]) -> str:
    """A text with the values of variables in it."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), text)


class Build:
    """All stages of a Dockerfile."""

    def __init__(
        self, work: Path, base: Path, given: Mapping[str, str], cache: Path | None
    ) -> None:
        self.work, self.base, self.given, self.cache = work, base, given, cache
        self.stages: dict[str, Stage] = {}
        self.args: dict[str, str] = {}
        self.stage: Stage

    def do(self, word: str, rest: str) -> None:
        """One step; ends the program where it fails."""
        print(f"== {word} {rest[:140]}", flush=True)
        if word not in TOLD:
            getattr(self, f"do_{word.lower()}")(rest)

    def do_from(self, rest: str) -> None:
        """Begin a stage: a copy of the base, or of an earlier stage."""
        image, _, name = filled(rest, self.args).partition(" AS ")
        root = self.work / name
        before = self.stages.get(image)
        subprocess.run(["cp", "-ax", "--reflink=auto", before.root if before else self.base, root],
                       check=True)  # fmt: skip
        kept = Stage(name, root)
        if before:
            kept = Stage(name, root, dict(before.environ), before.workdir, before.user,
                         before.entrypoint)  # fmt: skip
        self.stages[name] = self.stage = kept
        for inside in ("proc", "dev"):
            subprocess.run(["mount", "--rbind", f"/{inside}", root / inside], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")

    def do_arg(self, rest: str) -> None:
        """A value that may be given."""
        name, has_default, default = rest.partition("=")
        if name in self.given:
            self.args[name] = self.given[name]
        elif has_default:
            self.args[name] = filled(default.strip('"'), self.args)

    def do_env(self, rest: str) -> None:
        """Variables of all later steps."""
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            known = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
            self.stage.environ[name] = filled(value, known | self.stage.environ)
            if name == "MEDLLM_CACHE_DIR" and self.cache:
                target = self.stage.root / value.lstrip("/")
                shutil.copytree(self.cache, target, dirs_exist_ok=True)

    def do_workdir(self, rest: str) -> None:
        """Where later steps are run."""
        self.stage.workdir = rest
        (self.stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def do_user(self, rest: str) -> None:
        """By whom."""
        self.stage.user = rest

    def do_run(self, rest: str) -> None:
        """A command of the shell."""
        began = time.monotonic()
        ended = subprocess.run(
            self.stage.enter(["sh", "-c", rest], self.given | self.args), check=False
        )
        if ended.returncode:
            sys.exit(f"FAILS with {ended.returncode}: RUN {rest}")
        print(f"   took {time.monotonic() - began:.0f} s", flush=True)

    def do_copy(self, rest: str) -> None:
        """Files of the source, or of an earlier stage."""
        words = rest.split()
        options = dict(each.lstrip("-").split("=") for each in words if each.startswith("--"))
        *sources, target = (each for each in words if not each.startswith("--"))
        root = self.stages[options["from"]].root if "from" in options else SOURCE
        place = self.stage.root / str(Path(self.stage.workdir) / target).lstrip("/")
        into_folder = target.endswith("/")
        (place if into_folder else place.parent).mkdir(parents=True, exist_ok=True)
        for source in sources:
            found = root / source.lstrip("/")
            is_folder = found.is_dir()
            place.mkdir(exist_ok=True) if is_folder and not into_folder else None
            subprocess.run(["cp", "-a", f"{found}/." if is_folder else found, place], check=True)
            owner = options.get("chown", "root:root")
            inside = "/" + str(place.relative_to(self.stage.root))
            subprocess.run(["chroot", self.stage.root, "chown", "-R", owner, inside], check=True)

    def do_entrypoint(self, rest: str) -> None:
        """What is run."""
        self.stage.entrypoint = json.loads(rest)

    def do_cmd(self, rest: str) -> None:
        """With which arguments."""
        self.stage.command = json.loads(rest)

    def do_healthcheck(self, rest: str) -> None:
        """How it is asked whether it is well."""
        self.stage.healthcheck = json.loads(rest.partition("CMD")[2])


def serve(stage: Stage, model: Path) -> None:
    """Start the server with the command of the image, ask its health check, and end it."""
    shutil.copytree(model, stage.root / "srv/medllm/current")
    owner = ["chown", "-R", f"{stage.user}:{stage.user}", "/srv/medllm/current"]
    subprocess.run(["chroot", stage.root, *owner], check=True)
    command = stage.enter([*stage.entrypoint, *stage.command], {"MEDLLM_API_KEY": "try"})
    process = subprocess.Popen(command)
    try:
        for _ in range(120):
            time.sleep(1)
            if not subprocess.run(stage.enter(stage.healthcheck, {}), stderr=subprocess.DEVNULL,
                                  check=False).returncode:  # fmt: skip
                print("== the health check says that it is well")
                return
            if process.poll() is not None:
                break
        sys.exit("FAILS: the server is not well")
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Make the roots, and run the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--until", default="server")
    parser.add_argument("--arg", action="append", default=[])
    parser.add_argument("--bind", type=Path, action="append", default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--model", type=Path)
    asked = parser.parse_args()
    if os.environ.get("IN_NAMESPACE") != "yes":
        os.environ["IN_NAMESPACE"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    if not (asked.base / "etc/debian_version").is_file():
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE,
                        asked.base], check=True)  # fmt: skip
    asked.work.mkdir()
    build = Build(asked.work, asked.base, dict(each.split("=", 1) for each in asked.arg),
                  asked.cache)  # fmt: skip
    for word, rest in read_steps((SOURCE / "Dockerfile").read_text(encoding="utf-8")):
        if word == "FROM" and build.stages and build.stage.name == asked.until:
            break
        build.do(word, rest)
        for bound in asked.bind if word == "FROM" else ():
            place = build.stage.root / str(bound).lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", bound, place], check=True)
    if asked.model:
        serve(build.stage, asked.model)
    print(f"all steps until {build.stage.name} have been run")


if __name__ == "__main__":
    main()
