"""Makes the environment: .venv with the pinned packages, and the browser libraries in static/vendor.

Run by the Makefile with the machine's own Python (``python3 -I bootstrap.py run|test``), so it may import the standard
library only. A step whose inputs have not changed is skipped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST_PYTHON = (3, 11)
OLDEST_NODE = 18
# The tests need what the product needs: installing the second covers the first.
PROFILES = {"run": ("embedded.txt", ("run",)), "test": ("test.txt", ("test", "run"))}
VENDOR = REPOSITORY / "static" / "vendor"
VENDOR_FILES = {
    "node_modules/lightweight-charts/dist/lightweight-charts.standalone.production.js": (
        "lightweight-charts.standalone.production.js"
    ),
    "node_modules/lightweight-charts/LICENSE": "lightweight-charts.LICENSE.txt",
}


class BootstrapRefused(Exception):
    """The environment cannot be made; the text says what to do."""


def say(text: str) -> None:
    sys.stdout.write(f"==> {text}\n")
    sys.stdout.flush()


def requirement_lines(name: str) -> Iterator[str]:
    """The lines of a requirements file and of those it includes."""
    for line in (REPOSITORY / "requirements" / name).read_text().splitlines():
        included = re.fullmatch(r"-r\s+(\S+)", line.strip())
        if included:
            yield from requirement_lines(included[1])
        else:
            yield line


def fingerprint(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def make_venv() -> None:
    """Creates .venv, or makes a broken one again (its Python was removed, or the folder was moved)."""
    check = f"import pip, sys; sys.exit(sys.version_info < {OLDEST_PYTHON} or sys.prefix != {str(VENV)!r})"
    if PYTHON.exists() and subprocess.run([str(PYTHON), "-c", check], capture_output=True).returncode == 0:  # noqa: S603
        return
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapRefused(
            f"Python {version} has no venv module here: install it (Debian: apt-get install python{version}-venv)."
        )
    say(f"Making .venv with Python {sys.version.split()[0]}")
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])  # noqa: S603
    if done.returncode != 0:
        raise BootstrapRefused(f"The environment {VENV} could not be made; see above.")


def install_packages(profile: str) -> None:
    name, covered = PROFILES[profile]
    stamp = VENV / f"ballast-{profile}.stamp"
    wanted = fingerprint(*requirement_lines(name))
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"Installing the Python packages of requirements/{name} (a minute or two the first time)")
    began = time.monotonic()
    # Modules are compiled when they are first imported: most never are, and all of them take as long as the rest of it.
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
    ]
    if subprocess.run([*command, "-r", str(REPOSITORY / "requirements" / name)]).returncode != 0:  # noqa: S603
        raise BootstrapRefused("The Python packages could not be installed; pip says why above.")
    for one in covered:
        (VENV / f"ballast-{one}.stamp").write_text(fingerprint(*requirement_lines(PROFILES[one][0])))
    say(f"Python packages installed in {time.monotonic() - began:.0f} s")


def make_importable() -> None:
    """Puts the repository on the path of .venv: its commands (celery, pytest) find the packages from anywhere."""
    for folder in (VENV / "lib").glob("python3.*/site-packages"):
        (folder / "ballast.pth").write_text(f"{REPOSITORY}\n")


def require_node() -> None:
    advice = f"install Node {OLDEST_NODE} or newer with npm (Debian 12: apt-get install nodejs npm)."
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise BootstrapRefused(f"node and npm are needed to fetch the chart library and were not found: {advice}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()  # noqa: S603
    match = re.match(r"v(\d+)\.", version)
    if match is None or int(match[1]) < OLDEST_NODE:
        raise BootstrapRefused(f"Node is {version or 'broken'}: {advice}")


def vendor_fingerprint() -> str:
    return fingerprint((REPOSITORY / "package-lock.json").read_text(), *VENDOR_FILES.values())


def vendor_is_current() -> bool:
    stamp = VENDOR / ".stamp"
    return stamp.exists() and stamp.read_text() == vendor_fingerprint()


def copy_browser_libraries() -> None:
    """Fetches the locked packages (their install scripts are never run) and copies what the pages use."""
    say("Fetching the browser libraries")
    npm = shutil.which("npm") or "npm"
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(command, cwd=REPOSITORY).returncode != 0:  # noqa: S603
        raise BootstrapRefused("The browser libraries could not be fetched (`npm ci` failed; see above).")
    VENDOR.mkdir(parents=True, exist_ok=True)
    for source, target in VENDOR_FILES.items():
        shutil.copyfile(REPOSITORY / source, VENDOR / target)
    (VENDOR / ".stamp").write_text(vendor_fingerprint())


def main(profile: str) -> int:
    try:
        # Asked first: a missing Node should not be reported after a minute of installing.
        fetch = not vendor_is_current()
        if fetch:
            require_node()
        make_venv()
        install_packages(profile)
        make_importable()
        if fetch:
            copy_browser_libraries()
    except BootstrapRefused as error:
        sys.stderr.write(f"Ballast cannot be set up: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
