"""Seeded byte streams; decides which byte stands at which offset.

Pure. A stream is made of chunks of 64 KiB: a digest of (seed, name, chunk number), then a slice of one random
block that begins where the digest says. No two chunks are alike and no chunk is periodic, so bytes that are
lost, repeated, shifted, swapped or changed are found by comparing, and a chunk costs one small hash and two
copies.
"""

import hashlib
from functools import lru_cache

CHUNK = 64 * 1024
_BLOCK = 4 * CHUNK
_DIGEST = hashlib.sha256().digest_size


@lru_cache(maxsize=16)
def _block(key: bytes) -> memoryview:
    """The random block of one seed and name, which all connections of a traffic share."""
    block = hashlib.shake_128(key).digest(_BLOCK)
    # Twice the start, so that a slice from any offset of the block needs no second piece.
    return memoryview(block + block[:CHUNK])


class Stream:
    """The endless stream of one seed and one name (`send`, `receive`); of one connection, where there are many."""

    def __init__(self, seed: int, name: str, index: int | None = None) -> None:
        """Two streams are equal exactly when seed, name and index are."""
        key = f"teambed/{seed}/{name}/".encode()
        self._block = _block(key)
        self._key = key if index is None else key + f"{index}/".encode()
        self._number, self._digest, self._start = -1, b"", 0

    def at(self, offset: int, limit: int = CHUNK) -> memoryview:
        """1 to `limit` bytes from `offset` on, to the end of their chunk at most."""
        number, inside = divmod(offset, CHUNK)
        if number != self._number:
            self._number, self._digest = number, hashlib.sha256(self._key + str(number).encode()).digest()
            self._start = int.from_bytes(self._digest[:8], "big") % _BLOCK
        end = self._start + min(inside + limit, CHUNK) - _DIGEST
        if inside >= _DIGEST:
            return self._block[self._start + inside - _DIGEST : end]
        rest = self._block[self._start : max(end, self._start)]
        return memoryview(self._digest[inside : inside + limit] + bytes(rest))

    def bytes(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` on."""
        pieces = []
        while length > 0:
            piece = self.at(offset, length)
            pieces.append(bytes(piece))
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)


class Check:
    """Compares what arrives with a stream, and hashes it. `first_difference` is an offset, or None so far."""

    def __init__(self, stream: Stream, length: int) -> None:
        """Expects the first `length` bytes of the stream and then the end."""
        self._stream, self.length = stream, length
        self.bytes = 0
        self.first_difference: int | None = None
        self._hash = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        """The next bytes that arrived, in order."""
        self._hash.update(data)
        while data:
            wanted = self._stream.at(self.bytes, len(data))
            if self.first_difference is None and self.bytes + len(wanted) > self.length:
                wanted = wanted[: max(0, self.length - self.bytes)]
                if data[: len(wanted)] == wanted:
                    self.first_difference = self.length  # more than was asked for
            # As bytes: comparing memoryviews goes byte by byte, which is far slower than two copies.
            if self.first_difference is None and bytes(data[: len(wanted)]) != bytes(wanted):
                pairs = zip(data, wanted, strict=False)
                self.first_difference = self.bytes + next(i for i, (got, want) in enumerate(pairs) if got != want)
            if self.first_difference is not None:
                self.bytes += len(data)  # counted and hashed, compared no more
                return
            self.bytes += len(wanted)
            data = data[len(wanted) :]

    @property
    def sha256(self) -> str:
        """Of the bytes that arrived."""
        return self._hash.hexdigest()
