"""Loss components by the names that they had before."""

import warnings
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

RENAMED = {
    "recMSE": "recFieldError",
    "reconstruction_mse": "recFieldError",
    "lossRecMSE": "recFieldError",
    "predMSE": "predFieldError",
    "prediction_mse": "predFieldError",
    "lossPredMSE": "predFieldError",
    "reconstruction_lsim": "recLSIM",
    "prediction_lsim": "predLSIM",
}
_MSE_NOTE = (
    " The mean squared error became the field error: it is divided by the mean square of the truth, "
    "so its scale and its gradient are other ones."
)


def rename_legacy_losses(
    components: Mapping[str, Value], *, stacklevel: int = 2
) -> dict[str, Value]:
    """The same mapping by today's names of the loss components.

    | before | now |
    |---|---|
    | `recMSE`, `reconstruction_mse`, `lossRecMSE` | `recFieldError` |
    | `predMSE`, `prediction_mse`, `lossPredMSE` | `predFieldError` |
    | `reconstruction_lsim` | `recLSIM` |
    | `prediction_lsim` | `predLSIM` |

    Args:
        components: Anything by name of the component; names that were never changed are kept.
        stacklevel: Of the warnings, as `warnings.warn` counts: 2 is the caller.

    Returns:
        A new dict in the same order. Each old name gives one `DeprecationWarning`.

    Raises:
        ValueError: If two of the names mean the same component.
    """
    renamed: dict[str, Value] = {}
    given: dict[str, str] = {}
    for name, value in components.items():
        new = RENAMED.get(name, name)
        if new in given:
            raise ValueError(
                f"'{given[new]}' and '{name}' are the same loss component: give '{new}' alone."
            )
        given[new], renamed[new] = name, value
        if new != name:
            note = _MSE_NOTE if "MSE" in name.upper() else ""
            text = f"the loss component '{name}' is called '{new}' now.{note}"
            warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
    return renamed
