"""Goes through deploy/Dockerfile's steps in a folder, where there is no Docker engine to build it with.

Every RUN, COPY, ENV and WORKDIR of the stages that the last one is made of, absolute paths moved into the folder; then
its ENTRYPOINT and CMD under an unprivileged user until its HEALTHCHECK succeeds. What it cannot show: the base image,
and the user that RUN makes.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEALTHY_SECONDS = 60.0


class Stage:
    """What one FROM begins: a file tree of its own, environment and working directory."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.environment: dict[str, str] = {}
        self.folder = "/"
        self.said: dict[str, str] = {}

    def moved(self, text: str) -> str:
        """The same with absolute paths of the image inside this tree; those of the machine stay."""
        return re.sub(r"(?<![\w./])/(opt|src|var|gateway)\b", rf"{self.tree}/\1", text)

    def path(self, place: str) -> Path:
        """A place in the image, inside this tree."""
        return self.tree / str(Path(self.folder) / place).lstrip("/")

    def variables(self) -> dict[str, str]:
        """Environment of its processes."""
        own = {name: self.moved(value) for name, value in self.environment.items()}
        return {"PATH": f"{self.tree.parent}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **own}


def main() -> int:
    """Build the image, run it, and say whether it became healthy."""
    with tempfile.TemporaryDirectory(prefix="meterbridge-image-") as folder:
        Path(folder).chmod(0o755)
        # Debian's Python for the base image's: one of root's own could not be run by anybody else.
        (Path(folder) / "bin").mkdir()
        (Path(folder) / "bin" / "python").symlink_to("/usr/bin/python3")
        stages: dict[str, Stage] = {}
        text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
        stage = Stage(Path(folder))
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if not word or word.startswith("#"):
                continue
            if word == "FROM":
                name = rest.partition(" AS ")[2]
                stage = stages[name] = Stage(Path(folder) / (name or "final"))
                stage.tree.mkdir()
            elif name in ("", "build"):
                print(line, flush=True)
                step(stages, stage, word, rest)
        return 0 if healthy(stages[""]) else 1


def step(stages: dict[str, Stage], stage: Stage, word: str, rest: str) -> None:
    """Do one instruction."""
    if word == "ENV":
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            stage.environment[name] = value.replace("$PATH", stage.variables()["PATH"])
    elif word == "WORKDIR":
        stage.folder = rest
        stage.path("").mkdir(parents=True, exist_ok=True)
    elif word == "COPY":
        *sources, target = [part for part in rest.split() if not part.startswith("--")]
        other = re.search(r"--from=(\S+)", rest)
        for source in sources:
            found = stages[other[1]].path(source) if other else ROOT / source
            there = stage.path(target)
            if target.endswith("/"):
                there = there / found.name
            there.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, there, symlinks=True)
            else:
                shutil.copy(found, there)
    elif word == "RUN" and not rest.startswith("useradd"):
        subprocess.run(["sh", "-c", stage.moved(rest)], cwd=stage.path(""), env=stage.variables(), check=True)
    else:
        stage.said[word] = rest


def healthy(stage: Stage) -> bool:
    """Run it as nobody until its HEALTHCHECK succeeds."""
    nobody = pwd.getpwnam("nobody")
    as_nobody = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    # Its scripts name the interpreter of the stage that made it.
    for script in (stage.tree / "opt").glob("*/bin/*"):
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:2] == b"#!":
            here = "/".join(stage.tree.parts[-2:])
            script.write_text(re.sub(r"meterbridge-image-[^/]+/[^/]+", here, script.read_text()))
    home = stage.path("")
    if as_nobody:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    words = [stage.moved(part) for part in json.loads(stage.said["ENTRYPOINT"]) + json.loads(stage.said["CMD"])]
    program = shutil.which(words[0], path=stage.variables()["PATH"])
    with subprocess.Popen([program or words[0], *words[1:]], cwd=home, env=stage.variables(), **as_nobody) as process:
        try:
            check = re.search(r"CMD (\[.*)", stage.said.get("HEALTHCHECK", ""))
            give_up = time.monotonic() + HEALTHY_SECONDS
            while check and process.poll() is None and time.monotonic() < give_up:
                probe = subprocess.run(json.loads(check[1]), env=stage.variables(), capture_output=True, check=False)
                if probe.returncode == 0:
                    owner = Path(f"/proc/{process.pid}").stat().st_uid
                    print(f"healthy, as user {owner}")
                    return owner != 0
                time.sleep(0.5)
        finally:
            process.terminate()
    print("it did not become healthy")
    return False


if __name__ == "__main__":
    sys.exit(main())
