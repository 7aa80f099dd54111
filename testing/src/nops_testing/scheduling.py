"""Which tests stay together where several workers share them."""

from typing import final

from xdist.scheduler import LoadFileScheduling


@final
class Together(LoadFileScheduling):
    """A file's tests run in one worker, those of one app too: what they share is made once.

    An app's tests share a data set and a finished run, the dearest of all fixtures.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.split("/")
        return "/".join(folder[:2]) if folder[0] == "apps" else file
