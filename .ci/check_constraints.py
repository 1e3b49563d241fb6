"""Whether an ordinary machine can install what constraints.txt pins: nothing is installed, only resolved.

Every extra, for every Python that is supported and both processors of Linux, against the wheels that are
published: `===` refuses a build of torch that only this machine has, whose requirements are other ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
GLIBC = "2_28"  # the oldest that torch's wheels run on
# Extras with wheels for these alone: Python, processor, glibc.
SPECIAL = {
    "seismic": [("3.11", "x86_64", "2_34")],  # its marker in pyproject.toml says so
    "openvino": [
        (python, *place) for python in PYTHONS for place in (("x86_64", GLIBC), ("aarch64", "2_35"))
    ],
}
# Built from source where no wheel is published (see the README).
# kiwipiepy-model is nothing but data.
SOURCE = {"x86_64": ["kiwipiepy-model"], "aarch64": ["kiwipiepy-model", "pytrec-eval-terrier"]}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by package, of lines name==version."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", text, re.MULTILINE)
    return {canonical(name): version for name, version in found}


def check(python: str, processor: str, glibc: str, extras: list[str], pinned: dict[str, str]) -> str:
    """What is wrong with this combination; empty if nothing is."""
    command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--no-config"]
    command += ["pyproject.toml", "-", "--constraint", "constraints.txt", "--no-header", "--no-annotate"]
    command += ["--python-version", python, "--python-platform", f"{processor}-manylinux_{glibc}"]
    command += ["--only-binary", ":all:"]
    for package in SOURCE.get(processor, []):
        command += ["--no-binary", package]
    for extra in extras:
        command += ["--extra", extra]
    torch = f"torch==={pinned['torch']}"
    done = subprocess.run(command, input=torch, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return done.stderr
    loose = sorted(set(pins(done.stdout)) - set(pinned))
    return f"not pinned in constraints.txt: {', '.join(loose)}" if loose else ""


def main() -> int:
    pinned = pins((ROOT / "constraints.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = list(project["optional-dependencies"])
    usual = [extra for extra in extras if extra not in SPECIAL]
    jobs = [(python, processor, GLIBC, usual) for processor in PROCESSORS for python in PYTHONS]
    jobs += [(*place, [extra]) for extra, places in SPECIAL.items() for place in places]
    with ThreadPoolExecutor(len(jobs)) as pool:
        faults = list(pool.map(lambda job: check(*job, pinned), jobs))
    for (python, processor, glibc, chosen), fault in zip(jobs, faults, strict=True):
        print(f"Python {python}, {processor}, glibc {glibc}, {','.join(chosen)}: {fault or 'resolves'}")
    return int(any(faults))


if __name__ == "__main__":
    sys.exit(main())
