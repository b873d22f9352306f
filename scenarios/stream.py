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


class Stream:
    """The endless stream of one seed and one name (`send`, `receive`)."""

    def __init__(self, seed: int, name: str) -> None:
        """Two streams are equal exactly when seed and name are."""
        self._key = f"teambed/{seed}/{name}/".encode()
        # Twice the start, so that a slice from any offset of the block is one copy.
        block = hashlib.shake_128(self._key).digest(_BLOCK)
        self._block = block + block[:CHUNK]
        self._chunk = lru_cache(maxsize=8)(self._make)

    def _make(self, number: int) -> bytes:
        digest = hashlib.sha256(self._key + str(number).encode()).digest()
        start = int.from_bytes(digest[:8], "big") % _BLOCK
        return digest + self._block[start : start + CHUNK - _DIGEST]

    def at(self, offset: int, limit: int = CHUNK) -> memoryview:
        """1 to `limit` bytes from `offset` on, to the end of their chunk at most."""
        number, inside = divmod(offset, CHUNK)
        return memoryview(self._chunk(number))[inside : inside + limit]

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
