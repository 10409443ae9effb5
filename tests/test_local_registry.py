from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from streams import local_registry
from streams.local import LocalError, LocalRegistry
from streams.local_jars import read_sums
from streams.local_registry import SUMS_FILE, registry_files
from streams.registry import RegistryClient
from tests.test_local_broker import listening

OURS = {"PATH", "HOME", "LANG", "LC_ALL", "TZ"}
SCHEMA = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}'


@pytest.mark.broker
@pytest.mark.slow
async def test_schemas_and_ids_are_the_same_after_a_kill_and_a_restart() -> None:
    with LocalRegistry() as registry:
        url = registry.url
        async with RegistryClient(url, timeout=30) as client:
            number = await client.register("a-value", SCHEMA)

            registry.kill()
            assert not registry.running
            await asyncio.to_thread(registry.restart)

            assert registry.url == url
            assert await client.register("a-value", SCHEMA) == number
            assert await client.versions("a-value") == [1]


@pytest.mark.broker
def test_it_listens_on_loopback_only(registry: LocalRegistry) -> None:
    assert registry.pid
    # 127.0.0.1, little-endian hex; as IPv4 in IPv6 where Java opens such sockets
    assert listening(registry.pid) <= {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.broker
async def test_a_new_version_must_read_all_older_ones(registry: LocalRegistry) -> None:
    async with RegistryClient(registry.url, timeout=30) as client:
        assert await client.compatibility() == "BACKWARD_TRANSITIVE"


@pytest.mark.broker
def test_it_sees_none_of_our_environment_that_could_change_what_it_does(
    registry: LocalRegistry,
) -> None:
    variables = Path(f"/proc/{registry.pid}/environ").read_text().split("\0")

    assert {each.partition("=")[0] for each in variables if each} <= OURS


def test_without_start_there_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"registry has no address yet: call start"):
        _ = LocalRegistry(tmp_path).url


def test_the_list_in_the_repository_names_every_file_with_its_sum() -> None:
    sums = read_sums(SUMS_FILE)

    assert {"quarkus-run.jar", "app/apicurio-registry-app-3.3.3.jar"} <= set(sums)
    assert len(sums) == 468
    assert all(len(digest) == 64 for digest in sums.values())
    assert not any(name.startswith(("/", ".")) or ".." in name for name in sums)


# -- how it is fetched, from an archive of ours ------------------------------------------------

CONTENT = {"run.jar": b"first", "lib/b.jar": b"second"}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the resolver bring an archive with more in it than is listed."""
    path = tmp_path / "registry.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (CONTENT | {"../outside": b"x", "unlisted.jar": b"y"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(local_registry, "_resolve", lambda _work: path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(local_registry, "ARCHIVE_SHA256", digest)
    return path


def test_only_listed_files_are_unpacked(tmp_path: Path, archive: Path) -> None:
    folder = registry_files(tmp_path / "cache", SUMS)
    archive.unlink()  # it is not needed again

    assert registry_files(tmp_path / "cache", SUMS) == folder
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == set(CONTENT)


@pytest.mark.usefixtures("archive")
def test_a_file_changed_after_the_fetch_stops_the_start(tmp_path: Path) -> None:
    folder = registry_files(tmp_path / "cache", SUMS)
    (folder / "lib" / "b.jar").write_bytes(b"tampered")

    with pytest.raises(LocalError, match=r"lib/b\.jar is not the file.*Nothing was started"):
        registry_files(tmp_path / "cache", SUMS)


def test_an_archive_that_is_not_ours_is_not_opened(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(b"no archive")

    with pytest.raises(LocalError, match=r"registry\.tar\.gz is not the file"):
        registry_files(tmp_path / "cache", SUMS)

    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
