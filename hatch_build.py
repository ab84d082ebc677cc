"""The README for package indexes: relative links become absolute if pyproject.toml has the public address of the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """Sets `readme`; `address` is the setting of this hook."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text of README.md."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, self.config.get("address", ""))}


def absolute(text: str, address: str) -> str:
    """The text with its relative links below an address, or as it is without one."""
    return re.sub(r"\]\((?!https?://|#)", f"]({address.rstrip('/')}/", text) if address else text
