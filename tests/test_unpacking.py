from __future__ import annotations

import random
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import cramjam
import pytest

from streams import unpacking
from streams.unpacking import DamagedError, pieces, unpack
from tests.kafka_batches import PACK, code, lz4

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

PACKED = [name for name in PACK if name != "none"]
TEXT = b"".join(b"%d agents " % number for number in range(30_000))
NOISE = random.Random(7).randbytes(300_000)


def in_pieces(name: str, packed: bytes) -> bytes:
    return b"".join(pieces(code(name), memoryview(packed)))


def at_once(name: str, packed: bytes, room: int) -> bytes | None:
    into = bytearray(room)
    size = unpack(code(name), memoryview(packed), memoryview(into))
    return None if size is None else bytes(into[:size])


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE, TEXT + NOISE + TEXT])
def test_both_ways_give_what_was_packed(name: str, data: bytes) -> None:
    packed = PACK[name](data)
    assert in_pieces(name, packed) == data
    assert at_once(name, packed, len(data)) == data


@pytest.mark.parametrize("name", PACKED)
def test_what_does_not_fit_is_left_to_pieces(name: str) -> None:
    assert at_once(name, PACK[name](TEXT), len(TEXT) - 1) is None


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_a_piece_of_a_bomb_is_small(name: str) -> None:
    sizes = [len(piece) for piece in pieces(code(name), memoryview(PACK[name](bytes(20 << 20))))]
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= 4 << 20


def until_damage(name: str, packed: bytes) -> tuple[bytes, str]:
    found = b""
    try:
        for piece in pieces(code(name), memoryview(packed)):
            found += piece
    except DamagedError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("name", PACKED)
def test_what_stands_before_a_cut_is_given(name: str) -> None:
    packed = PACK[name](NOISE)
    found, why = until_damage(name, packed[: len(packed) * 3 // 4])
    assert why
    assert found == NOISE[: len(found)]
    assert at_once(name, packed[:-9], 2_000_000) is None
    if name != "snappy":  # of which a block is all or nothing
        assert len(found) > 100_000


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_frames_one_after_another_are_one_batch(name: str) -> None:
    packed = PACK[name](TEXT) + PACK[name](b"") + PACK[name](NOISE)
    assert in_pieces(name, packed) == TEXT + NOISE
    assert at_once(name, packed, 2_000_000) == TEXT + NOISE


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_what_follows_the_last_frame_is_left_alone(name: str) -> None:
    assert in_pieces(name, PACK[name](TEXT) + b"rest") == TEXT


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_frames_without_end_are_refused(name: str) -> None:
    with pytest.raises(DamagedError, match="more than 4096"):
        in_pieces(name, PACK[name](b"") * 5000)


def test_a_skipped_frame_of_zstd_is_skipped() -> None:
    skipped = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    assert in_pieces("zstd", skipped + zstd.compress(TEXT) + skipped) == TEXT


def test_a_window_larger_than_encoders_should_use_is_refused_in_pieces() -> None:
    window = {int(zstd.CompressionParameter.window_log): 27}
    stream = zstd.ZstdCompressor(options=window)
    packed = stream.compress(NOISE) + stream.flush()  # who knows the size takes a smaller one
    with pytest.raises(DamagedError, match="too much memory"):
        in_pieces("zstd", packed)
    assert at_once("zstd", packed, len(NOISE)) == NOISE


def test_a_block_of_snappy_that_claims_a_huge_size_takes_no_memory() -> None:
    packed = b"\xff\xff\xff\xff\x0f" + b"\0a" * 100
    with pytest.raises(DamagedError, match=r"claims 4294967295 unpacked, at most 4510"):
        in_pieces("snappy", packed)
    assert at_once("snappy", packed, 100_000) is None


def test_a_block_of_the_java_frame_that_claims_more_than_is_there_is_refused() -> None:
    framed = b"\x82SNAPPY\0" + bytes([0, 0, 0, 1] * 2)
    for size in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"):
        with pytest.raises(DamagedError, match="claims"):
            in_pieces("xerial", framed + size + bytes(cramjam.snappy.compress_raw(b"abc")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: b"no frame" + packed, "does not begin"),
        (lambda packed: packed[:4] + b"\x44" + packed[5:], "depend on each other"),
        (lambda packed: packed[:4] + b"\xe4" + packed[5:], "unknown flags"),
        (lambda packed: packed[:5] + b"\x10" + packed[6:], "unknown flags"),
        (lambda packed: packed[:5], "does not unpack"),
        (lambda packed: packed[:9], "does not unpack"),
        (lambda packed: packed[:40], "inside a block"),
    ],
)
def test_a_wrong_frame_of_lz4_says_what_is_wrong(
    change: Callable[[bytes], bytes], message: str
) -> None:
    with pytest.raises(DamagedError, match=message):
        in_pieces("lz4", change(lz4(TEXT)))


def test_frames_of_lz4_with_everything_they_may_have_are_read() -> None:
    block = bytes(cramjam.lz4.compress_block(b"abc" * 100, store_size=False))
    size = len(block).to_bytes(4, "little")
    # Checksums of blocks and content, content size, dictionary id, one block as it is.
    frame = b"\x04\x22\x4d\x18\x7d\x40" + bytes(8 + 4 + 1) + size + block + bytes(4)
    frame += (3 | 1 << 31).to_bytes(4, "little") + b"xyz" + bytes(4) + bytes(4) + bytes(4)
    assert in_pieces("lz4", frame + lz4(b"more")) == b"abc" * 100 + b"xyz" + b"more"


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_compression_that_does_not_exist_is_named(codec: int) -> None:
    with pytest.raises(DamagedError, match=f"type {codec} does not exist"):
        list(pieces(codec, memoryview(TEXT)))
    assert unpack(codec, memoryview(TEXT), memoryview(bytearray(9))) is None


@pytest.mark.parametrize("name", PACKED)
def test_damaged_bytes_never_raise_anything_else(name: str) -> None:
    rng, packed = random.Random(11), PACK[name](TEXT[:5000] + NOISE[:500])
    for _ in range(400):
        wrong = bytearray(packed)
        for _ in range(rng.randint(1, 3)):
            wrong[rng.randrange(min(len(wrong), 60))] = rng.randrange(256)
        data = memoryview(bytes(wrong[: rng.choice([None, rng.randrange(len(wrong))])]))
        unpack(code(name), data, memoryview(bytearray(6000)))
        with suppress(DamagedError):
            for piece in pieces(code(name), data):
                assert len(piece) <= max(unpacking.SNAPPY_RATIO * len(data), 4 << 20)
