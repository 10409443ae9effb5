"""One real schema registry (Apicurio) in a child process, without Docker.

It serves Confluent's REST API, keeps its schemas in a file (H2), so that they and their ids are
there again after a kill, and checks new versions of a subject against all older ones.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from streams.local_jars import LocalError, java, kept, mirrors, read_sums, resolving
from streams.local_server import HOST, Command, LocalServer

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP, ARTIFACT, VERSION = "io.apicurio", "apicurio-registry-app", "3.3.3"
APICURIO = f"{GROUP}:{ARTIFACT}:{VERSION}"
MEGABYTES = 159
ARCHIVE_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
SUMS_FILE = Path(__file__).with_name("local_registry.sha256")
MIN_JAVA = 21
API = "/apis/ccompat/v7"

_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:TieredStopAtLevel=1",  # starts sooner, and is never busy for long
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
)
_PROPERTIES = {
    "quarkus.http.host": HOST,
    "quarkus.management.host": HOST,
    "quarkus.management.port": "0",  # it cannot be switched off; 0 is any free one
    "quarkus.http.access-log.enabled": "false",
    'quarkus.log.category."io.apicurio".level': "WARN",
    # Its own default is NONE: every schema would be taken.
    "apicurio.rules.global.compatibility": "BACKWARD_TRANSITIVE",
    # Written at each commit, not half a second later: an id that was given stays given.
    "apicurio.datasource.url": "jdbc:h2:file:./schemas;WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE",
    "apicurio.datasource.jdbc.initial-size": "1",
    "apicurio.datasource.jdbc.min-size": "1",
    "apicurio.datasource.jdbc.max-size": "8",
}
# The rest of the environment could change what it does: it reads QUARKUS_* and APICURIO_*.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class LocalRegistry(LocalServer):
    """One Apicurio registry in a child process; it starts in about 4.5 s."""

    NAME = "registry"
    STARTED = "Listening on: http"
    PORT_TAKEN = "seems to be in use by another process"

    @property
    def url(self) -> str:
        """Return the URL of Confluent's API: what `registry_url` wants.

        Raises:
            LocalError: the registry was never started, so its port is not known.
        """
        return f"http://{HOST}:{self.port}{API}"

    @property
    def address(self) -> str:
        """Return the URL of Confluent's API."""
        return self.url

    @classmethod
    def _mark(cls, data_dir: Path) -> str:
        return str(data_dir / "registry" / "tmp")

    def _prepare(self) -> Command:
        files = registry_files()
        folder = self.data_dir / "registry"
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        properties = _PROPERTIES | {
            "java.io.tmpdir": str(temporary),
            "quarkus.http.port": str(self.port),
            "apicurio.storage.snapshot.location": str(temporary),
            "apicurio.import.work-dir": str(temporary),
        }
        settings = [f"-D{name}={value}" for name, value in properties.items()]
        program = [str(java(MIN_JAVA)), *_JVM, *settings, "-jar", str(files / "quarkus-run.jar")]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # A working folder of its own: it would read .env and config/ of ours.
        return Command(program, folder, environment)


def registry_files(cache: Path | None = None, sums: Mapping[str, str] | None = None) -> Path:
    """Return the folder with the verified files of the registry, fetching them the first time.

    Args:
        cache: folder to keep it in; the one of the broker's jars when None.
        sums: file name to sha256; the list in the repository when None.

    Raises:
        LocalError: the repository cannot be reached, or a file is not the one on the list.
    """
    return kept("registry", read_sums(SUMS_FILE) if sums is None else sums, _fetch, cache)


def _fetch(work: Path, staged: Path, sums: Mapping[str, str]) -> None:
    archive = _resolve(work)
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != ARCHIVE_SHA256:
        raise LocalError(
            f"{archive.name} is not the file this release was tested with: expected sha256 "
            f"{ARCHIVE_SHA256}, found {actual}. Nothing was started."
        )
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and (name := member.name.removeprefix("./")) in sums:
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content.read())


def _resolve(work: Path) -> Path:
    """Return the archive, fetched into `work`: an interrupted fetch leaves nothing behind."""
    with resolving(APICURIO, MEGABYTES):
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext  # noqa: PLC0415

        remote = {"central": MAVEN_CENTRAL_URL, **mirrors()}
        context = MavenContext(repo_cache=work / "repository", remote_repos=remote)
        component = context.project(GROUP, ARTIFACT).at_version(VERSION)
        return Path(component.artifact("all", "tar.gz").resolve())
