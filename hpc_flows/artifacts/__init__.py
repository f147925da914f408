"""Artifacts: links, texts, tables, progress and images that a run leaves for people to look at.

An artifact is an event of the run's journal; a large one is a file of the run's folder, which the
event names. The newest version under each key is found without knowing its run, below
`$HPC_FLOWS_HOME/artifacts/`. It works alike in flows, tasks, jobs and worker processes.
"""

from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

from hpc_flows.artifacts import store
from hpc_flows.artifacts.store import StoredArtifact
from hpc_flows.awaiting import awaited
from hpc_flows.context import current
from hpc_flows.exceptions import ArtifactError

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "Artifact",
    "ImageArtifact",
    "LinkArtifact",
    "MarkdownArtifact",
    "ProgressArtifact",
    "StoredArtifact",
    "TableArtifact",
    "acreate_image_artifact",
    "acreate_link_artifact",
    "acreate_markdown_artifact",
    "acreate_progress_artifact",
    "acreate_table_artifact",
    "aupdate_progress_artifact",
    "create_image_artifact",
    "create_link_artifact",
    "create_markdown_artifact",
    "create_progress_artifact",
    "create_table_artifact",
    "update_progress_artifact",
]


class Artifact:
    """Something that a run leaves for people to look at, before it is kept.

    Args:
        type: what kind it is.
        key: a name under which its versions of all runs are found: lower-case letters, digits
            and `-`.
        description: markdown.
        data: JSON.
    """

    type: str | None = None

    def __init__(
        self,
        *,
        type: str | None = None,  # noqa: A002 - Prefect's name
        key: str | None = None,
        description: str | None = None,
        data: Any = None,
    ) -> None:
        if type is not None:
            self.type = type
        self.key = key
        self.description = description
        self.data = data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(type={self.type!r}, key={self.key!r})"

    def format(self, *, _sync: bool | None = None) -> Any:
        """Return the data as they are kept; `await` works as well."""
        return _answer(self._formatted(), sync=_sync)

    async def aformat(self) -> Any:
        """Return what `format` returns."""
        return self._formatted()

    def create(self, *, _sync: bool | None = None) -> Any:
        """Keep it and return it as a `StoredArtifact`; `await` works as well.

        Raises:
            ArtifactError: the key or the data cannot be kept.
        """
        return _answer(self.keep(), sync=_sync)

    async def acreate(self) -> StoredArtifact:
        """Do what `create` does."""
        return self.keep()

    @classmethod
    def get(cls, key: str | None = None) -> Any:
        """Return the newest `StoredArtifact` of a key, or of all keys; None if there is none.

        `await` works as well.
        """
        return awaited(store.latest(key))

    @classmethod
    async def aget(cls, key: str | None = None) -> StoredArtifact | None:
        """Return what `get` returns."""
        return store.latest(key)

    @classmethod
    def get_or_create(
        cls, key: str | None = None, description: str | None = None, data: Any = None, **more: Any
    ) -> Any:
        """Return the newest artifact of a key and False, or make one and return it and True.

        `await` works as well.

        Args:
            key: as for `get`.
            description: of the one that is made.
            data: of the one that is made.
            more: other arguments of the class, such as `type`.
        """
        return awaited(cls._get_or_create(key, description, data, more))

    @classmethod
    async def aget_or_create(
        cls, key: str | None = None, description: str | None = None, data: Any = None, **more: Any
    ) -> tuple[StoredArtifact, bool]:
        """Do what `get_or_create` does."""
        return cls._get_or_create(key, description, data, more)

    @classmethod
    def _get_or_create(
        cls, key: str | None, description: str | None, data: Any, more: dict[str, Any]
    ) -> tuple[StoredArtifact, bool]:
        found = store.latest(key)
        if found is not None:
            return found, False
        if data is not None:
            more = {**more, "data": data}
        return cls(key=key, description=description, **more).keep(), True

    def _formatted(self) -> Any:
        return _as_json(self.data)

    def keep(self) -> StoredArtifact:
        """Keep it and return it as a `StoredArtifact`, awaited or not."""
        data = self._formatted()
        context = current()
        if context is None or context.root is None:
            warnings.warn(
                "This artifact belongs to no run, because it is made outside of flows and tasks. "
                "It is kept, and found by its key only.",
                FutureWarning,
                stacklevel=_outside_frames(),
            )
        return store.keep(self.type, self.key, self.description, data)


class LinkArtifact(Artifact):
    """A link, with a text to show for it."""

    type = "markdown"

    def __init__(self, *, link: str, link_text: str | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.link = link
        self.link_text = link_text

    def _formatted(self) -> str:
        return (
            f"[{self.link_text}]({self.link})" if self.link_text else f"[{self.link}]({self.link})"
        )


class MarkdownArtifact(Artifact):
    """A text in markdown."""

    type = "markdown"

    def __init__(self, *, markdown: str, **common: Any) -> None:
        super().__init__(**common)
        self.markdown = markdown

    def _formatted(self) -> str:
        return self.markdown


class TableArtifact(Artifact):
    """A table: a dict of columns, a list of dicts or a list of lists."""

    type = "table"

    def __init__(self, *, table: Any, **common: Any) -> None:
        super().__init__(**common)
        self.table = table

    def _formatted(self) -> str:
        return _as_json(_without_nan(self.table))


class ProgressArtifact(Artifact):
    """How much is done, from 0 to 100."""

    type = "progress"

    def __init__(self, *, progress: float, **common: Any) -> None:
        super().__init__(**common)
        self.progress = progress

    def _formatted(self) -> float:
        return _percent(self.progress)


class ImageArtifact(Artifact):
    """An image that lies somewhere a browser can reach."""

    type = "image"

    def __init__(self, *, image_url: str, **common: Any) -> None:
        super().__init__(**common)
        self.image_url = image_url

    def _formatted(self) -> str:
        return self.image_url


def create_link_artifact(
    link: str,
    link_text: str | None = None,
    key: str | None = None,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Keep a link and return the artifact's UUID; `await` works as well.

    Args:
        link: a URL.
        link_text: what to show for it.
        key: a name to find its versions by: lower-case letters, digits and `-`.
        description: markdown.
    """
    made = LinkArtifact(link=link, link_text=link_text, key=key, description=description)
    return _answer(made.keep().id, sync=_sync)


async def acreate_link_artifact(
    link: str,
    link_text: str | None = None,
    key: str | None = None,
    description: str | None = None,
) -> UUID:
    """Do what `create_link_artifact` does."""
    made = LinkArtifact(link=link, link_text=link_text, key=key, description=description)
    return made.keep().id


def create_markdown_artifact(
    markdown: str,
    key: str | None = None,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Keep a text in markdown and return the artifact's UUID; `await` works as well."""
    made = MarkdownArtifact(markdown=markdown, key=key, description=description)
    return _answer(made.keep().id, sync=_sync)


async def acreate_markdown_artifact(
    markdown: str, key: str | None = None, description: str | None = None
) -> UUID:
    """Do what `create_markdown_artifact` does."""
    return MarkdownArtifact(markdown=markdown, key=key, description=description).keep().id


def create_table_artifact(
    table: dict[str, list[Any]] | list[dict[str, Any]] | list[list[Any]],
    key: str | None = None,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Keep a table and return the artifact's UUID; `await` works as well.

    Args:
        table: a dict of columns, a list of dicts or a list of lists. What is not a number (nan)
            becomes null.
        key: as for links.
        description: markdown.
    """
    made = TableArtifact(table=table, key=key, description=description)
    return _answer(made.keep().id, sync=_sync)


async def acreate_table_artifact(
    table: dict[str, list[Any]] | list[dict[str, Any]] | list[list[Any]],
    key: str | None = None,
    description: str | None = None,
) -> UUID:
    """Do what `create_table_artifact` does."""
    return TableArtifact(table=table, key=key, description=description).keep().id


def create_progress_artifact(
    progress: float,
    key: str | None = None,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Keep how much is done, from 0 to 100, and return the artifact's UUID to update it by.

    `await` works as well.
    """
    made = ProgressArtifact(progress=progress, key=key, description=description)
    return _answer(made.keep().id, sync=_sync)


async def acreate_progress_artifact(
    progress: float, key: str | None = None, description: str | None = None
) -> UUID:
    """Do what `create_progress_artifact` does."""
    return ProgressArtifact(progress=progress, key=key, description=description).keep().id


def update_progress_artifact(
    artifact_id: UUID | str,
    progress: float,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Say how much is done now, and return the artifact's UUID; `await` works as well.

    Any task of the run may do it, in whatever process.

    Raises:
        ArtifactError: there is no such artifact.
    """
    updated = store.update(str(artifact_id), _percent(progress), description)
    return _answer(updated.id, sync=_sync)


async def aupdate_progress_artifact(
    artifact_id: UUID | str, progress: float, description: str | None = None
) -> UUID:
    """Do what `update_progress_artifact` does."""
    return store.update(str(artifact_id), _percent(progress), description).id


def create_image_artifact(
    image_url: str,
    key: str | None = None,
    description: str | None = None,
    *,
    _sync: bool | None = None,
) -> Any:
    """Keep where an image lies and return the artifact's UUID; `await` works as well."""
    made = ImageArtifact(image_url=image_url, key=key, description=description)
    return _answer(made.keep().id, sync=_sync)


async def acreate_image_artifact(
    image_url: str, key: str | None = None, description: str | None = None
) -> UUID:
    """Do what `create_image_artifact` does."""
    return ImageArtifact(image_url=image_url, key=key, description=description).keep().id


def _answer(value: Any, *, sync: bool | None) -> Any:
    """Return a value to the caller's caller, who awaits it or not; `sync` says that he does not."""
    return value if sync else awaited(value, depth=2)


def _as_json(data: Any) -> str:
    try:
        return json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"The data of an artifact must be JSON: {error}. Convert them, or use str()."
        raise ArtifactError(msg) from None


def _without_nan(value: Any) -> Any:
    """Return a table in which None stands for what is not a number."""
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _percent(progress: float) -> float:
    if isinstance(progress, bool) or not isinstance(progress, int | float):
        raise ArtifactError(f"The progress is a number from 0 to 100, not {progress!r}.")
    if not math.isfinite(progress):
        raise ArtifactError(f"The progress is a number from 0 to 100, not {progress!r}.")
    return float(min(max(progress, 0.0), 100.0))


def _outside_frames() -> int:
    """Return how many frames lie between a warning here and the user's own code."""
    import sys  # noqa: PLC0415 - only to warn

    frame, count = sys._getframe(1), 1  # noqa: SLF001 - the only way to the caller
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame, count = frame.f_back, count + 1
    return count
