"""The curriculum that nops_losses keeps for its bundle is that of nops_schedules, bit for bit."""

from hypothesis import given
from hypothesis import strategies as st
from nops_losses import compute_operator_loss_bundle
from nops_schedules import compute_inverse_loss_curriculum_weight

EPOCHS = (None, *range(35))


def of_the_bundle(epoch, base, warmup, cap):
    weights = {
        "lambda_inv_dec": base,
        "inverse_loss_warmup_epochs": warmup,
        "inverse_loss_max_weight": cap,
    }
    bundle = compute_operator_loss_bundle(weights=weights, current_epoch=epoch)
    return bundle.weights["L_inv_dec"]


@given(base=st.floats(0, 2), warmup=st.integers(0, 16), cap=st.floats(0, 1))
def test_both_give_one_weight(base, warmup, cap):
    for epoch in EPOCHS:
        expected = compute_inverse_loss_curriculum_weight(epoch, base, warmup, cap)
        assert of_the_bundle(epoch, base, warmup, cap) == expected


def test_the_defaults_are_the_same():
    bundle = compute_operator_loss_bundle(weights={"lambda_inv_enc": 0.5}, current_epoch=16)
    found = [bundle.weights["L_inv_enc"]]
    for epoch in EPOCHS:
        weights = {"lambda_inv_enc": 0.01}
        bundle = compute_operator_loss_bundle(weights=weights, current_epoch=epoch)
        found.append(bundle.weights["L_inv_enc"])
    expected = [compute_inverse_loss_curriculum_weight(epoch, 0.01) for epoch in EPOCHS]
    assert found == [compute_inverse_loss_curriculum_weight(16, 0.5), *expected]
