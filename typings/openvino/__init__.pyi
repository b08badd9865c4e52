"""Any to the type checker; pyproject.toml, [tool.pyright], says why."""

from typing import Any

def __getattr__(name: str) -> Any: ...
