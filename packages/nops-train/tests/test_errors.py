import pickle
import signal

import pytest
from nops_train._errors import CheckFailed, Diverged, InertTermError, InputError, Interrupted


@pytest.mark.parametrize(
    ("error", "code", "base"),
    [
        (CheckFailed("no"), 1, Exception),
        (InputError("no"), 2, ValueError),
        (InertTermError("no"), 2, InputError),
        (Diverged("no"), 3, RuntimeError),
        (Interrupted(signal.SIGTERM), 143, BaseException),  # 128 + 15
        (Interrupted(signal.SIGINT), 130, BaseException),  # 128 + 2
    ],
)
def test_each_exception_has_its_exit_code(error, code, base):
    assert error.exit_code == code
    assert isinstance(error, base)


def test_an_interruption_is_swallowed_by_no_except_exception():
    def swallowing():
        try:
            raise Interrupted(signal.SIGTERM)
        except Exception:
            return "swallowed"

    with pytest.raises(Interrupted, match="SIGTERM after saving") as caught:
        swallowing()
    assert caught.value.signal == 15


def test_an_interruption_survives_pickling_with_its_message():
    error = pickle.loads(pickle.dumps(Interrupted(2, "stopped at step 5")))
    assert (error.signal, str(error)) == (2, "stopped at step 5")
