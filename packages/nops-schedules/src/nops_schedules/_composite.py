"""What weightings that hand over to others have in common."""

import abc
from typing import Any


class Composite(abc.ABC):
    """A weighting with another one in charge, which an engine deals with by `active_weighting`."""

    @property
    @abc.abstractmethod
    def _scheme(self) -> Any:
        """The member in charge, which may be a composite itself."""

    @property
    def active_weighting(self) -> Any:
        """The weighting in charge."""
        return getattr(self._scheme, "active_weighting", None) or self._scheme

    def apply_update(self) -> None:
        """Keep what the member in charge has staged, where it stages."""
        self._settle("apply_update")

    def discard_update(self) -> None:
        """Forget what the member in charge has staged: the step was skipped."""
        self._settle("discard_update")

    def _settle(self, verdict: str) -> None:
        if hasattr(self._scheme, verdict):
            getattr(self._scheme, verdict)()
