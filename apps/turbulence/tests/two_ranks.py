"""One of two ranks: `turbulence` with the words given, and what its schedule saw and decided.

Started as ranks with `FOLDER WORDS…` it writes `FOLDER/RANK.json`, one entry per validation.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # optimizers ask for it: imported once for all ranks  # noqa: F401
from nops_schedules import FlexibleLossScheduler
from turbulence import training
from turbulence.cli import main


def follow(words: list[str]) -> list[dict[str, Any]]:
    """What the schedule of a comparison saw and decided; figures, which take longer, are not drawn."""
    seen: list[dict[str, Any]] = []
    observe = FlexibleLossScheduler.observe

    def noted(self: FlexibleLossScheduler, values: dict[str, float], **place: Any) -> None:
        observe(self, values, **place)
        weights = self.weights(epoch=place["epoch"], step=place["step"])
        watched = {name: values[name] for name in ("spectrum_error", "gradient_spectrum")}
        seen.append({**watched, "weights": weights, "scale": self.scale})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlexibleLossScheduler, "observe", noted)
        patch.setattr(training, "report_study", lambda study: study.report)
        assert main(words) == 0
    return seen


if __name__ == "__main__":
    found = follow(sys.argv[2:])
    Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps(found))
