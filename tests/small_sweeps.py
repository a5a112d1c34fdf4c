"""Run the examples of the README and every script in `sweeps/` at small sizes.

`python tests/small_sweeps.py FOLDER` writes into FOLDER and exits with 1 at the first failure.
"""

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SMALL = {
    "plateau_atlas": ["axes.w0.num=17", "axes.b0.num=17", "horizon=2000"],
    "nielsen_chapter3": [],
    "premature_saturation": ["horizon=100"],
    "confidently_wrong": ["axes.share.num=4", "horizon=500"],
    "digits": ["axes.seed.num=2", "horizon=20"],
    "trainability": ["axes.lr_hidden.num=12", "axes.lr_output.num=12", "horizon=60"],
    "two_weights": ["axes.w.num=9", "axes.v.num=8", "horizon=300"],
    "learning_rate": ["axes.w0.num=9", "axes.lr.num=8", "horizon=20000"],
    "deep_saturation": ["axes.w0.num=19", "axes.b0.num=19"],
    "activations": ["axes.w0.num=9", "axes.b0.num=9", "horizon=500"],
}
"""The settings that make each sweep small. A sweep that is not listed here fails."""


def call(*command: object, cwd: Path) -> None:
    """Run a command, then show it with its output; raise if it fails."""
    words = list(map(str, command))
    result = subprocess.run(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(f"$ {shlex.join(words)}\n{result.stdout}", end="", flush=True)
    result.check_returncode()


def run_sweep(script: Path, folder: Path) -> None:
    """Run one sweep, verify its folders and write its report."""
    settings = [part for text in SMALL[script.stem] for part in ("--set", text)]
    out = folder / script.stem
    call(sys.executable, script, "--out", out, *settings, cwd=folder)
    folders = [manifest.parent for manifest in sorted(out.rglob("manifest.json"))]
    for place in folders:
        call(sys.executable, "-m", "plateaumap", "info", place, "--verify", cwd=folder)
    call(sys.executable, "-m", "plateaumap", "report", folders[-1], cwd=folder)


def run_sweeps(folder: Path) -> int:
    """Run every sweep, two at a time, as most of a small sweep is compilation on one core."""
    scripts = sorted((ROOT / "sweeps").glob("*.py"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda script: run_sweep(script, folder), scripts))
    return len(scripts)


def run_readme(folder: Path) -> int:
    """Run the Python blocks of the README as one program, and its commands; return their number.

    `explore` is left out, because it serves until it is stopped; tests/explore runs it.
    """
    text = (ROOT / "README.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    call(sys.executable, "-c", program, cwd=folder)
    lines = [
        line.split("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("plateaumap ") and not line.startswith("plateaumap explore")
    ]
    (folder / "sweeps").symlink_to(ROOT / "sweeps")
    for line in lines:
        call(sys.executable, "-m", *shlex.split(line), cwd=folder)
    return 1 + len(lines)


def main() -> None:
    """Run everything."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sweeps = run_sweeps(folder)
    examples = run_readme(folder)
    print(f"{sweeps} sweeps and {examples} examples ran")
    assert sweeps >= len(SMALL)
    assert examples > 3


if __name__ == "__main__":
    main()
