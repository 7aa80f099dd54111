"""One of two ranks: `turbulence` with the words given, and what its schedule saw and decided.

`torchrun … two_ranks.py FOLDER WORDS…` writes `FOLDER/RANK.json`, one entry per validation.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from nops_schedules import FlexibleLossScheduler
from turbulence import training
from turbulence.cli import main

seen: list[dict[str, Any]] = []
observe = FlexibleLossScheduler.observe


def noted(self: FlexibleLossScheduler, values: dict[str, float], **place: Any) -> None:
    """Observe, and note the metric and the weights."""
    observe(self, values, **place)
    weights = self.weights(epoch=place["epoch"], step=place["step"])
    watched = {name: values[name] for name in ("spectrum_error", "gradient_spectrum")}
    seen.append({**watched, "weights": weights, "scale": self.scale})


def plain(study: Any) -> Path:
    """No report: figures take longer than all the rest."""
    return study.report


if __name__ == "__main__":
    FlexibleLossScheduler.observe = noted
    training.report_study = plain
    code = main(sys.argv[2:])
    Path(sys.argv[1], f"{os.environ.get('RANK', 'alone')}.json").write_text(json.dumps(seen))
    sys.exit(code)
