"""The agent's configuration: one JSON file, checked before anything starts.

Decides: what a valid configuration is. Never touches: anything but the file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host_agent.records import MAX_NICS


class ConfigError(Exception):
    """One line: file, place, reason."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(_Strict):
    socket: str


class NicConfig(_Strict):
    name: str
    bus: str
    socket: str


class OffloadConfig(_Strict):
    """after_bytes: bytes in both directions before a connection is offloaded; 0: at once; null: never."""

    after_bytes: int | None = Field(ge=0)


class AgentConfig(_Strict):
    """control: path of the local API's socket. pins: where the host engine pinned the records. nics: in NIC order."""

    control: str
    pins: str
    host: EngineConfig
    nics: list[NicConfig] = Field(min_length=1, max_length=MAX_NICS)
    offload: OffloadConfig

    @classmethod
    def load(cls, path: Path) -> AgentConfig:
        """Raises ConfigError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{path}: {place}: {first['msg']}") from None
