"""The doctor on this machine: settings, versions, limits. Names of settings only, never values."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka import codec

from streams import __version__
from streams.diagnosis import Check, Diagnosis, bad, good, odd
from streams.rules import RuleSet
from streams.settings import DEFAULT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.settings import Settings

DISTRIBUTION = "agentops-streams"
SERIES_BYTES = 50 * 1024
"""What a series costs at most, about."""
SPARE_FILES = 64
"""Files beside connections: sources, logs, the registry, metrics."""
_NEEDED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[.*\])?((?:[<>=!~]=?[^;,]+,?)*)\s*$")
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CODECS = {"gzip": codec.has_gzip, "snappy": codec.has_snappy, "lz4": codec.has_lz4,
           "zstd": codec.has_zstd}  # fmt: skip


# -- settings ----------------------------------------------------------------------------------


def judge_settings(
    settings: Settings, origins: Mapping[str, str], env: Mapping[str, str] | None = None
) -> list[Diagnosis]:
    """Say where the settings come from, and which of them should not stay."""
    check, said = Check.SETTINGS, []
    env = os.environ if env is None else env
    if settings.rules_file is not None:
        try:
            RuleSet.read(settings.rules_file)
        except ValueError as error:
            cure = "Mend it, or remove rules_file for the built-in rules."
            said.append(bad(check, f"rules_file: {error}", cure))
    if settings.reset_state:
        what = "reset_state is on: state that is missing is begun anew without a question."
        said.append(odd(check, what, "Remove it once the units are open."))
    if settings.partitioner == "unchecked":
        what = "partitioner is unchecked: an agent in two partitions is not noticed."
        said.append(odd(check, what, "Set AGENTOPS_PARTITIONER to what the producers use."))
    if env.get("AGENTOPS_FAILPOINTS"):
        what = "AGENTOPS_FAILPOINTS is set: this process is made to fail."
        said.append(bad(check, what, "Unset it outside of fault tests."))
    said += _clear_passwords(settings)
    return said or [good(check, _sources(origins))]


def _clear_passwords(settings: Settings) -> list[Diagnosis]:
    found = []
    plain = (settings.registry_url or "").startswith("http://")
    if settings.registry_password is not None and plain:
        found.append(("registry_password", "registry_url begins with http://", "Use https://."))
    if (settings.security_protocol, settings.sasl_mechanism) == ("SASL_PLAINTEXT", "PLAIN"):
        why = "security_protocol is SASL_PLAINTEXT, sasl_mechanism PLAIN"
        found.append(("sasl_password", why, "Use SASL_SSL."))
    return [
        odd(Check.SETTINGS, f"{name} goes over the wire in clear text: {why}.", cure)
        for name, why, cure in found
    ]


def _sources(origins: Mapping[str, str]) -> str:
    """Return which settings come from where."""
    by_source: dict[str, list[str]] = {}
    for name, source in sorted(origins.items()):
        kind = source.split()[0] if source.split()[0] != "file" else source
        by_source.setdefault(kind, []).append(name)
    if not by_source:
        return f"All are defaults: no {DEFAULT_FILE} in this folder, nothing in the environment."
    parts = [f"{', '.join(names)} from {source}" for source, names in by_source.items()]
    return f"{'; '.join(parts)}; the others are defaults."


# -- versions ----------------------------------------------------------------------------------


def observe_versions() -> tuple[list[str], dict[str, str]]:
    """Return what this distribution needs, and the version of each that is installed."""
    try:
        needed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    needed = [line for line in needed if "extra ==" not in line]
    return needed, dict(_installed(needed))


def _installed(needed: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in needed:
        match = _NEEDED.match(line.partition(";")[0].strip())
        if match is None:
            continue
        try:
            yield match[1], importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            continue


def judge_versions(needed: Iterable[str], installed: Mapping[str, str]) -> list[Diagnosis]:
    """Compare what is installed with what this release was tested with."""
    check, said, names = Check.VERSIONS, [], []
    cure = "Install as in the README: pip install -c constraints.txt ."
    for line in needed:
        match = _NEEDED.match(line.partition(";")[0].strip())
        if match is None:
            continue
        name, bounds = match[1], match[2]
        version = installed.get(name)
        if version is None:
            if ";" not in line:  # else it is for other Pythons, or other systems
                said.append(bad(check, f"{name} is missing.", cure))
        elif not all(_fits(version, bound) for bound in bounds.split(",") if bound):
            what = f"{name} is {version}, this release needs {bounds} and was tested with that."
            said.append(bad(check, what, cure))
        else:
            names.append(f"{name} {version}")
    missing = [name for name, has in _CODECS.items() if not has()]
    if missing:
        what = f"Records compressed with {', '.join(missing)} cannot be read."
        said.append(bad(check, what, "Install cramjam: a worker ends at the first of them."))
    if not names and not said:
        what = f"{DISTRIBUTION} {__version__} is not installed, so what it needs is not known."
        said.append(odd(check, what, cure))
    python = ".".join(map(str, sys.version_info[:3]))
    told = f"Python {python}, {DISTRIBUTION} {__version__}, {', '.join(names)}; codecs "
    return said or [good(check, told + ", ".join(_CODECS) + ".")]


def _fits(version: str, bound: str) -> bool:
    """Return whether a version is within one bound, as far as its numbers tell."""
    match = re.match(r"\s*(>=|==|~=|<=|<|>|!=)\s*([\d.]+?)(\.\*)?\s*$", bound)
    if match is None:
        return True
    relation, wanted, any_after = match[1], _numbers(match[2]), match[3]
    found = _numbers(version)
    if relation == "==":
        return found[: len(wanted)] == wanted if any_after else found == wanted
    if relation == "~=":
        return found >= wanted and found[: len(wanted) - 1] == wanted[:-1]
    tests = {">=": found >= wanted, "<=": found <= wanted, "<": found < wanted,
             ">": found > wanted, "!=": found != wanted}  # fmt: skip
    return tests[relation]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


# -- limits ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use here.

    Attributes:
        files: files and connections open at once; None is no limit.
        memory: bytes of this machine, or of this container; None where it is not known.
    """

    files: int | None
    memory: int | None


def observe_limits() -> Limits:
    """Ask the system."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory = [_container_memory(), _machine_memory()]
    known = [each for each in memory if each]
    return Limits(None if soft == resource.RLIM_INFINITY else soft, min(known, default=None))


def judge_limits(limits: Limits, settings: Settings, brokers: int = 1) -> list[Diagnosis]:
    """Compare with what a worker that has every unit may use at most."""
    check, said = Check.LIMITS, []
    # Each unit has a producer, and while it opens a reader, with two connections to a broker each.
    files = (settings.partitions + 1) * 4 * max(brokers, 3) + SPARE_FILES
    if limits.files is not None and limits.files < files:
        what = (
            f"{limits.files} files may be open at once; a worker with all units may need {files}."
        )
        said.append(
            odd(check, what, f"Raise it where workers start: ulimit -n {max(files, 4096)}.")
        )
    series = settings.partitions * settings.max_series * SERIES_BYTES
    if limits.memory is not None and limits.memory < series:
        share = limits.memory // (settings.partitions * SERIES_BYTES) // 2
        what = (
            f"There are {_size(limits.memory)} of memory; with max_series {settings.max_series} "
            f"in each of {settings.partitions} partitions one worker may need {_size(series)}."
        )
        cure = (
            f"Nothing, if you have far fewer agents and task types. Else start more workers, or "
            f"set AGENTOPS_MAX_SERIES to {max(1, share)}."
        )
        said.append(odd(check, what, cure))
    memory = "an unknown amount" if limits.memory is None else _size(limits.memory)
    count = "any number of" if limits.files is None else limits.files
    return said or [
        good(check, f"{count} files, {memory} of memory; series need {_size(series)} at most.")
    ]


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _container_memory() -> int | None:
    for path in _CGROUP:
        try:
            return int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None


def _size(octets: int) -> str:
    return f"{octets / 2**30:.1f} GiB" if octets >= 2**30 else f"{octets / 2**20:.0f} MiB"
