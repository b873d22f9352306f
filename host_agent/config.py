"""The agent's configuration: one JSON file, checked before anything starts.

Decides: what a valid configuration is. Never touches: anything but the file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host_agent.policy import Choice, OnFault
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


class OffloadRule(_Strict):
    """When a connection is offloaded: after so many bytes in both directions (0: at once), or so many seconds,
    whichever comes first. Neither: never."""

    after_bytes: int | None = Field(default=None, ge=0)
    after_s: float | None = Field(default=None, ge=0)

    @property
    def never(self) -> bool:
        return self.after_bytes is None and self.after_s is None


class OffloadConfig(OffloadRule):
    """The team's rule, and those of single services by their port."""

    services: dict[int, OffloadRule] = Field(default_factory=dict)

    def of(self, port: int) -> OffloadRule:
        return self.services.get(port, self)


class ReloadAfter(_Strict):
    """How much evidence a reload wants: so many frames on another NIC, or so long since the first. Default: at once."""

    frames: int = Field(default=1, ge=1)
    seconds: float = Field(default=0, ge=0)


class LacpConfig(_Strict):
    """mode: off (a static LAG), active, or passive (speaks only to one that does). rate: how often the switch is asked
    to speak, fast (every second, dead after 3) or slow (every 30 seconds, dead after 90)."""

    mode: str = Field(default="off", pattern="^(off|active|passive)$")
    rate: str = Field(default="fast", pattern="^(fast|slow)$")


class AgentConfig(_Strict):
    """name: as its events call it. control: path of the local API's socket.

    pins: where the host engine pinned the records. nics: in NIC order.
    min_links: with fewer active members none is. probe_s: seconds between two questions to the switch over every wire;
    None: it is asked nothing.
    age_s: seconds after which a silent connection's record goes. flood_per_s: half-open connections a second to one
    port that are a flood."""

    control: str
    pins: str
    host: EngineConfig
    nics: list[NicConfig] = Field(min_length=1, max_length=MAX_NICS)
    name: str = "agent"
    team: str = "team0"
    offload: OffloadConfig
    on_fault: OnFault = OnFault.RELOAD
    choice: Choice = Choice.LEAST_LOADED
    fail_back: str = Field(default="none", pattern="^(none|rebalance)$")
    reload_after: ReloadAfter = ReloadAfter()
    lacp: LacpConfig = LacpConfig()
    min_links: int = Field(default=1, ge=1, le=MAX_NICS)
    probe_s: float | None = Field(default=None, ge=0.01, le=60)
    age_s: float = Field(default=300.0, gt=0)
    flood_per_s: float = Field(default=100.0, gt=0)
    trace: bool = False

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
