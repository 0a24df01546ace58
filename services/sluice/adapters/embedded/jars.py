"""The jars of Apache Kafka: named with their checksums in ``kafka-jars.txt``, fetched once by jgo, kept in a cache.

``python -m sluice.adapters.embedded.jars VERSION`` resolves a version's dependencies anew and prints that file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec
import requests
import stamina
import structlog
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with (jars ready, jars in all) as they arrive."""

DOWNLOADS_AT_ONCE = 8
ATTEMPTS = 4
TIMEOUT = 30
"""Seconds to wait for an answer of the repository."""
# Kafka logs through slf4j 1.7; the simple binding writes to standard error, which the supervisor keeps.
LOGGING_BINDING = "org.slf4j:slf4j-simple:1.7.36"


class JarsNotFetched(SluiceError):
    """Kafka's jars are not in the cache and could not be had from the network."""


class WrongChecksum(Exception):
    """A downloaded jar is not what it should be; fetching it again may help."""


class Jar(msgspec.Struct, frozen=True):
    """One jar: its Maven coordinate (``group:artifact:version``) and the SHA-256 of its bytes, in hexadecimal."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """As it is called in a Maven repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked_jars() -> tuple[Jar, ...]:
    """The jars this version of Sluice runs Kafka with, Kafka's own first."""
    text = files(__package__).joinpath("kafka-jars.txt").read_text(encoding="ascii")
    return tuple(Jar(*line.split()) for line in text.splitlines())


def default_cache() -> Path:
    """Where jars are kept when no folder is given: beside the user's other caches."""
    return Path.home() / ".cache" / "sluice"


def ensure_jars(cache: Path, progress: Progress | None = None) -> tuple[Path, ...]:
    """Paths of Kafka's jars in ``cache``, fetched when they are not there.

    Every jar is checked against its SHA-256 when it is fetched. Safe to call from several processes at once: one
    fetches, the others wait for it. Raises :class:`JarsNotFetched`.
    """
    jars = locked_jars()
    folder = cache / f"kafka-{jars[0].coordinate.rpartition(':')[2]}-{_fingerprint(jars)}"
    # The folder appears under this name only when it is complete.
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "kafka.lock"):
            if not folder.is_dir():
                _fill(folder, jars, progress)
    return tuple(folder / jar.filename for jar in jars)


def _fingerprint(jars: tuple[Jar, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(jars)).hexdigest()[:12]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created when missing) against other processes; waits for it."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fill(folder: Path, jars: tuple[Jar, ...], progress: Progress | None) -> None:
    log.info("fetching Kafka's jars", jars=len(jars), into=str(folder))
    scratch = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder.parent))
    try:
        complete = scratch / "complete"
        complete.mkdir()
        maven = _maven(scratch / "repository")
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="jars") as pool:
            fetched = [pool.submit(_fetch, maven, jar, complete) for jar in jars]
            try:
                for done, future in enumerate(as_completed(fetched), start=1):
                    future.result()
                    if progress is not None:
                        progress(done, len(jars))
            except (requests.RequestException, RuntimeError, WrongChecksum, OSError) as error:
                pool.shutdown(cancel_futures=True)
                raise JarsNotFetched(_explain(error, maven, folder)) from error
        complete.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    log.info("fetched Kafka's jars", into=str(folder))


def _fetch(maven: MavenContext, jar: Jar, into: Path) -> None:
    for attempt in stamina.retry_context(
        on=(requests.RequestException, RuntimeError, WrongChecksum),
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=0.5,
        wait_max=10.0,
    ):
        with attempt:
            group, name, version = jar.coordinate.split(":")
            artifact = maven.project(group, name).at_version(version).artifact()
            path = _download(artifact)
            if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
                path.unlink()
                raise WrongChecksum(f"{jar.coordinate} came with another checksum than expected")
            path.rename(into / jar.filename)


def _download(artifact: Artifact) -> Path:
    try:
        return artifact.resolve()
    except BaseException:
        # jgo writes under the final name, so an aborted download would pass for a whole one the next time.
        if artifact.cached_path is not None:
            artifact.cached_path.unlink(missing_ok=True)
        raise


def _maven(repository: Path) -> MavenContext:
    # Repositories of the user's own jgo settings (a company's mirror) come after the public one, as in jgo itself;
    # one named "central" takes its place.
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(
        resolver=PythonResolver(), repo_cache=repository, local_repos=[], remote_repos=repositories, timeout=TIMEOUT
    )


def _explain(error: Exception, maven: MavenContext, folder: Path) -> str:
    asked = ", ".join(maven.remote_repos.values())
    if isinstance(error, WrongChecksum):
        return f"{error}: {asked} or a proxy on the way changes files; nothing was kept."
    if isinstance(error, requests.RequestException):
        return (
            f"cannot fetch Apache Kafka from {asked} ({type(error).__name__}). The first start needs the network: "
            f"check it and the proxy settings, or copy {folder} from a machine that has it, "
            f"or use a Kafka of your own instead."
        )
    return f"cannot fetch Apache Kafka from {asked} into {folder.parent}: {error}"


def resolve(version: str) -> Iterator[Jar]:
    """Resolve ``version`` of Kafka's broker with all it needs at run time, newly; for updating ``kafka-jars.txt``."""
    with tempfile.TemporaryDirectory() as scratch:
        maven = _maven(Path(scratch))
        wanted = [maven.create_dependency(c) for c in (f"org.apache.kafka:kafka_2.13:{version}", LOGGING_BINDING)]
        given, needed = maven.resolver.resolve(wanted)
        for dependency in (*given, *needed):
            artifact = dependency.artifact
            digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
            yield Jar(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}", digest)


if __name__ == "__main__":
    for found in resolve(sys.argv[1]):
        os.write(sys.stdout.fileno(), f"{found.coordinate} {found.sha256}\n".encode())
