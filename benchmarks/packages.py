"""Postfix and OpenDKIM from Debian's packages, and Haraka from npm, without installing anything on the system.

Packages are downloaded and unpacked into a folder of the checkout. Nothing below /etc or /usr is written, no daemon of
the system is started or stopped, and no user is made.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from sluice.domain.errors import SluiceError

DEBIAN = ("postfix", "opendkim")
HARAKA = ("Haraka@3.3.4", "haraka-plugin-dkim@1.3.1")
Say = Callable[[str], None]


class CannotFetch(SluiceError):
    """What is compared with cannot be had on this machine; the message says what is missing."""


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """Where programs are, and what they need to run."""

    sbin: Path
    daemons: Path
    """Postfix's own programs (daemon_directory)."""
    meta: Path
    libraries: Path
    opendkim: Path
    environment: dict[str, str]
    unprivileged: str
    """A user that owns Postfix's queue. Its own one, or one that every Debian has."""
    group: str

    @property
    def smtp_sink(self) -> Path:
        """The receiver."""
        return self.sbin / "smtp-sink"

    @property
    def smtp_source(self) -> Path:
        """The load generator."""
        return self.sbin / "smtp-source"


def debian_tools(folder: Path, say: Say) -> Tools:
    """Use what is installed, else download and unpack what is missing. Raises :class:`CannotFetch`."""
    root = folder / "debian"
    missing = [name for name in DEBIAN if not _installed(name) and not _unpacked(root, name)]
    if missing:
        _unpack(root, missing, say)
    postfix = Path("/") if _installed("postfix") else root
    opendkim = Path("/") if _installed("opendkim") else root
    # Not every package (libopendbx1) keeps its libraries in the folder of the architecture.
    libraries = [root / "usr/lib/postfix", root / "usr/lib", *(root / "usr/lib").glob("*-linux-gnu*")]
    return Tools(
        sbin=postfix / "usr/sbin",
        daemons=postfix / "usr/lib/postfix/sbin",
        meta=postfix / "etc/postfix",
        libraries=postfix / "usr/lib/postfix",
        opendkim=opendkim / "usr/sbin/opendkim",
        environment={"LD_LIBRARY_PATH": ":".join(map(str, libraries))} if root.exists() else {},
        unprivileged=_first(("postfix", "mail"), pwd.getpwnam, "user"),
        group=_first(("postdrop", "news"), grp.getgrnam, "group"),
    )


def haraka_home(folder: Path, say: Say) -> Path:
    """The folder whose ``node_modules`` holds Haraka; installs it there once. Raises :class:`CannotFetch`."""
    home = folder / "haraka"
    if (home / "node_modules/Haraka/bin/haraka").exists():
        return home
    if not shutil.which("npm") or not shutil.which("node"):
        raise CannotFetch("Haraka needs node and npm")
    say(f"installing {' and '.join(HARAKA)} into {home}")
    home.mkdir(parents=True, exist_ok=True)
    _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home), *HARAKA], home)
    return home


def _installed(name: str) -> bool:
    return Path(f"/usr/sbin/{name}").exists()


def _unpacked(root: Path, name: str) -> bool:
    return (root / f"usr/sbin/{name}").exists()


def _unpack(root: Path, names: list[str], say: Say) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise CannotFetch(f"{' and '.join(names)}: not installed, and this is no Debian to fetch them from")
    # What an installation would add is what this machine lacks: libraries too.
    plan = _run(["apt-get", "install", "--simulate", "--no-install-recommends", *names], root.parent)
    wanted = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    say(f"downloading {', '.join(wanted)}")
    packages = root.parent / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", *wanted], packages)
    for package in packages.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(root)], packages)


def _run(command: list[str], cwd: Path) -> str:
    cwd.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}, timeout=300
    )
    if done.returncode:
        hint = "; an `apt-get update` may help" if command[0] == "apt-get" else ""
        last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise CannotFetch(f"{' '.join(command[:3])} … failed{hint}: {last}")
    return done.stdout


def _first(names: tuple[str, ...], look_up: Callable[[str], object], what: str) -> str:
    for name in names:
        try:
            look_up(name)
        except KeyError:
            continue
        return name
    raise CannotFetch(f"there is no {what} {' or '.join(names)}, which Postfix needs")
