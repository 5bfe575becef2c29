"""How a model is served: one strict object, from a constructor, the environment or a command line.

As with runtime.settings, an option wins over the environment variable FERRUM_SERVE_<NAME>, which
wins over the default; a name that is no field, or a value that is not allowed, is an error.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ferrum.runtime.strict_settings import StrictSettings, comma_separated

# A site as browsers name it in the header Origin: no path, no scheme's own port, small letters.
_ORIGIN = re.compile(
    r"(?!http:.*:80$|https:.*:443$)"
    r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)
# All of them, and what browsers call a page that is a file.
_NO_SITE = ("*", "null", "file://")


class ServeSettings(StrictSettings):
    """All settings of the server with their defaults."""

    prefix: ClassVar[str] = "FERRUM_SERVE_"

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to listen at; 0.0.0.0 is every network this machine is in",
    )
    port: int = Field(8080, ge=0, le=65535, description="port to listen at; 0 takes a free one")
    api_key: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="refuse requests without 'Authorization: Bearer KEY'; other users of this "
        "machine can read it off the command line, but not off FERRUM_SERVE_API_KEY",
    )
    model_name: str | None = Field(
        None, min_length=1, description="what clients call the model; by default its file's name"
    )
    max_body: int = Field(4 << 20, ge=1, description="most bytes of a request's body")
    max_prompt: int | None = Field(
        None, ge=1, description="most tokens of a prompt; by default what context and caches hold"
    )
    max_queue: int = Field(
        256, ge=0, description="most requests that wait while max_sequences others run"
    )
    max_choices: int = Field(16, ge=1, description="most choices (n) of one request")
    request_timeout: float = Field(
        600.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds after which a request ends with what it has; 0 is no limit",
    )
    cache_file: Path | None = Field(
        None,
        description="file that keeps the cached prompts over a restart: read at the start if it is "
        "there, written when the server was told to end and has",
    )
    page: bool = Field(True, description="serve the chat page at /")
    cors_origin: tuple[str, ...] = Field(
        (),
        description="a site whose pages may ask from a browser, such as https://chat.example or "
        "http://localhost:3000, without a path; comma-separated, * is every site",
    )
    allowed_host: tuple[str, ...] = Field(
        (),
        description="a name besides localhost by which the server may be asked while it listens "
        "on this machine alone and without a key; comma-separated, * is every name",
    )
    access_log: bool = Field(
        False, description="one line per request on the standard error, without any text of it"
    )

    @field_validator("cors_origin", "allowed_host", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return comma_separated(value)

    @field_validator("cors_origin")
    @classmethod
    def _as_browsers_send_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(site in _NO_SITE or _ORIGIN.fullmatch(site) for site in value):
            raise ValueError(
                "scheme://host[:port] as browsers send it, in small letters, without a path or the "
                "scheme's own port; null of a page that is a file; or *"
            )
        return value

    @field_validator("cache_file", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    @field_validator("request_timeout", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, value: str | None) -> str | None:
        # A header carries no other characters, so no client could ever send the key.
        if value is not None and not all("!" <= character <= "~" for character in value):
            raise ValueError("letters, digits and signs of ASCII, without spaces")
        return value

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
