"""Tokens in the loop: what reaches what, what is saved, what is refused."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from noa.cli import main
from noa.config import RolloutConfig
from noa.task import RolloutTask
from noa.token_scores import score_tokens
from noa.token_terms import TokenTerms
from noa.vocabulary import load_vocabulary
from nops_data import Normaliser, open_splits
from nops_models import UAFNO, LatentProjector, UAFNOConfig
from nops_train import load_checkpoint
from torch.testing import assert_close

RUN = Path("runs/noa/default")
ALL = frozenset({"traj", "commit", "latent"})


@pytest.fixture
def train_with(run_noa, tokens):
    """`noa train` with a frozen VQ-VAE; further words override."""

    def run(*words: str, name: str = "default") -> int:
        own = ("--enable-latent-loss", "--latent-sample-steps=3", "--rollout.window=4")
        rest = [
            word for word in own if not any(w.split("=")[0] == word.split("=")[0] for w in words)
        ]
        return run_noa("train", f"--vqvae-path={tokens}", f"--name={name}", *rest, *words)

    return run


@pytest.fixture(scope="module")
def trained(data_folder, tokens, tiny_run, tmp_path_factory):
    """A finished run of all three terms with its report, not to be changed."""
    runs = tmp_path_factory.mktemp("three")
    words = [word for word in tiny_run if not word.startswith("--rollout.window")]
    words += [
        "--rollout.window=4",
        f"--vqvae-path={tokens}",
        "--enable-latent-loss",
        f"--runs={runs}",
    ]
    assert main(["train", f"--data={data_folder}", *words, "--latent-sample-steps=3"]) == 0
    return runs / "noa" / "default"


@pytest.fixture(scope="module")
def parts(tokens, data_folder):
    """A surrogate away from its start, its tokens, a batch of normalised trajectories."""
    splits = open_splits(data_folder)
    torch.manual_seed(0)
    scale = splits.normaliser.increment_scale
    sizes = {"base_channels": 4, "encoder_levels": 2, "blocks_per_level": 1, "afno_blocks": 1}
    model = UAFNO(
        UAFNOConfig(in_channels=2, num_parameters=2, afno_groups=2, residual_scale=scale, **sizes)
    )
    torch.nn.init.normal_(model.output.weight, std=0.1)
    vocabulary = load_vocabulary(tokens)
    projector = LatentProjector(model.config.level_channels[-1], vocabulary.latent_dim, dropout=0.0)
    terms = TokenTerms(vocabulary, normaliser=splits.normaliser, projector=projector, count=3)
    frames = torch.stack([torch.as_tensor(splits.train.read(i)) for i in range(3)])
    frames = splits.normaliser.normalise(frames)
    batch = {"frames": frames, "initial": frames[:, :1], "parameters": torch.rand(3, 2)}
    return model, terms, batch


def run_losses(model, terms, batch, *, active=ALL, **rollout):
    task = RolloutTask(model, rollout=RolloutConfig(window=4, **rollout), tokens=terms)
    yield from task.losses(batch, epoch=0, step=0, active=active)


def gradients(model, terms):
    trained = [*model.named_parameters(), *terms.projector.named_parameters()]
    found = {k: p.grad.clone() for k, p in trained if p.grad is not None}
    model.zero_grad()
    terms.projector.zero_grad()
    return found


def test_terms_are_those_of_the_definition(parts):
    model, terms, batch = parts
    (found,) = run_losses(model, terms, batch)
    state, states, bottlenecks = batch["frames"][:, 0], [], []
    for _ in range(4):
        state, bottleneck = model(state, batch["parameters"], return_bottleneck=True)
        states.append(state)
        bottlenecks.append(bottleneck)
    vocabulary = terms.vocabulary
    back = terms._normaliser.denormalise
    features = vocabulary.features(back(torch.stack(states, 1)), back(batch["frames"][:, 0]))
    z = torch.cat(vocabulary.latents(features), -1)
    e = torch.cat(vocabulary.codes(vocabulary.latents(features)), -1)
    assert_close(found["commit"], (z - e).square().mean())
    # three of four steps: 0, 1, 3
    p = sum(terms.projector(bottlenecks[i]) for i in (0, 1, 3)) / 3
    assert_close(found["latent"], (p - z).square().mean())


def test_the_clip_is_the_last_of_the_window(parts):
    _, terms, batch = parts
    path = batch["frames"].repeat(1, 2, 1, 1, 1)[:, :7].requires_grad_()
    sum(z.square().sum() for z in terms.latents(path, batch["frames"][:, 0])).backward()
    reached = path.grad.flatten(2).any(-1)[0]
    assert reached.tolist() == [False] * 3 + [True] * 4


def test_what_each_term_reaches(parts):
    model, terms, batch = parts
    (found,) = run_losses(model, terms, batch)
    found["commit"].backward(retain_graph=True)
    commit = gradients(model, terms)
    assert commit["output.weight"].any()
    assert not any(name.startswith("layers") for name in commit)  # of the projector
    found["latent"].backward()
    latent = gradients(model, terms)
    assert all(latent[f"layers.{i}.weight"].any() for i in (0, 1, 4))
    assert any(g.any() for name, g in latent.items() if name.startswith("encoder"))
    assert all(p.grad is None for p in terms.vocabulary.model.parameters())


def test_latent_alone_costs_no_gradient_of_features(parts, monkeypatch):
    model, terms, batch = parts
    seen = []
    plain = terms.vocabulary.features

    def features(*clips):
        seen.append(torch.is_grad_enabled())
        return plain(*clips)

    monkeypatch.setattr(terms.vocabulary, "features", features)
    (found,) = run_losses(model, terms, batch, active=frozenset({"latent"}))
    assert (seen, found.keys()) == ([False], {"latent"})
    assert found["latent"].requires_grad


def test_checkpoints_change_no_gradient(parts):
    model, terms, batch = parts
    held = []
    for every in (0, 1, 3):
        (found,) = run_losses(model, terms, batch, checkpoint_every=every)
        sum(found.values()).backward()
        held.append(gradients(model, terms))
    for other in held[1:]:
        assert other.keys() == held[0].keys()
        for name, value in held[0].items():
            assert_close(other[name], value, rtol=1e-5, atol=1e-7)  # float32, another order of sums


@pytest.mark.parametrize("frames", [5, 9, 10, 13])
def test_windows_without_a_clip_have_no_tokens(parts, frames):
    model, terms, batch = parts
    path = batch["frames"].repeat(1, 3, 1, 1, 1)[:, :frames]
    longer = {**batch, "frames": path}
    shares = [
        {k: float(v.detach()) for k, v in found.items()}
        for found in run_losses(model, terms, longer, mode="sequential")
    ]
    whole = (frames - 1) // 4
    assert [("commit" in one) for one in shares] == [True] * whole + [False] * (
        (frames - 1) % 4 > 0
    )
    first = next(run_losses(model, terms, {**batch, "frames": path[:, :5]}))
    assert shares[0]["commit"] == pytest.approx(float(first["commit"].detach()) / whole)


def test_scores_of_a_perfect_surrogate(parts):
    _model, terms, batch = parts

    class Truth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.step = torch.nn.Parameter(torch.zeros(())), 0

        def forward(self, state, parameters, *, return_bottleneck):
            self.step += 1
            return batch["frames"][:, self.step], torch.zeros(3, terms.projector.in_channels, 4, 4)

    given = {"frames": batch["frames"], "parameters": batch["parameters"]}
    found = score_tokens(Truth(), terms, **given, window=4, batch_size=3)
    assert found["same_tokens"] == 1
    assert found["commit"] == found["commit_truth"] > 0
    assert found["latent_zero"] > found["latent_mean"] > 0
    assert found["r2"] == pytest.approx(1 - found["latent"] / found["latent_mean"])


def test_another_normaliser_changes_no_term(parts):
    _model, terms, batch = parts
    one = terms._normaliser
    held = {k: v for k, v in one.state_dict().items() if k != "channels"}
    other = Normaliser(**{**held, "mean": one.mean - 0.3, "std": one.std * 2})
    again = TokenTerms(terms.vocabulary, normaliser=other, projector=None, count=1)
    moved = other.normalise(one.denormalise(batch["frames"]))
    left, right = (
        torch.cat(t.latents(path[:, 1:], path[:, 0]), -1)
        for t, path in ((terms, batch["frames"]), (again, moved))
    )
    assert_close(left, right, rtol=1e-3, atol=1e-3)  # features of differences of rounded fields


def test_the_projector_is_trained_saved_and_loaded(trained, events):
    first, last = (
        load_checkpoint(trained / "checkpoints" / name) for name in ("epoch_1.pt", "epoch_2.pt")
    )
    names = [name for name in last["model"] if name.startswith("projector.")]
    assert len(names) == 6
    assert all((first["model"][name] != last["model"][name]).any() for name in names)
    moments = last["optimizer"]["state"]
    assert len(moments) == len([v for k, v in last["model"].items() if k != "scale"])
    train = [event for event in events(trained) if event["event"] == "train"]
    assert all(event["raw"].keys() == {"traj", "ic", "commit", "latent"} for event in train)
    assert train[0]["weight"] == {"traj": 1.0, "ic": 0.3, "commit": 0.5, "latent": 0.1}
    metrics = json.loads((trained / "summary.json").read_text())["metrics"]["tokens"]
    assert metrics["commit"] > 0
    assert metrics["r2"] < 1
    assert "L_latent" in (trained / "report.html").read_text()


@pytest.mark.parametrize("cut", [0, 3])
def test_interrupted_equals_uninterrupted(train_with, equal_runs, trained, cut, monkeypatch):
    plain, count = RolloutTask.losses, iter(range(1000))

    def losses(self, batch, **where):
        # the first two calls are the checks of the projector and of every term
        if next(count) == cut + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, **where)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutTask, "losses", losses)
        assert train_with() == 143
    assert train_with() == 0
    equal_runs(trained, RUN)


def test_a_moved_vocabulary_is_the_same_and_another_is_not(
    train_with, run_noa, train_tokens, trained, tokens, tmp_path, capsys
):
    shutil.copytree(trained, RUN)
    moved = shutil.copytree(tokens, tmp_path / "moved")
    assert run_noa("train", f"--vqvae-path={moved}", "--rollout.window=4") == 0
    assert main(["evaluate", str(RUN)]) == 0
    assert train_tokens("--name=other", "--train.seed=1", "--vqvae.epochs=1") == 0
    capsys.readouterr()
    assert run_noa("train", "--vqvae-path=runs/noa/other", "--rollout.window=4") == 2
    assert "alignment.vqvae" in capsys.readouterr().err


def test_a_run_may_start_from_one_without_tokens(train_with, finished, capsys):
    assert train_with(f"--init-from={finished}", "--train.epochs=1", name="next") == 0
    assert "projector.layers.0.weight" in capsys.readouterr().out


def test_a_frozen_projector_is_inert(train_with, capsys):
    assert train_with("--train.freeze=projector.*") == 2
    assert "latent reaches no trainable parameter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--lambda-commit=0.5"], "--vqvae-path"),
        (["--enable-latent-loss"], "--vqvae-path"),
        (["--lambda-latent=0.5"], "loss.latent"),
        (["--vqvae.epochs=3"], "--vqvae.epochs (vqvae.epochs): without effect on train"),
        (["--vqvae-path=nowhere"], "alignment.vqvae: nowhere"),
        (["--alignment.against=nowhere"], "alignment.against needs alignment.vqvae"),
        (
            ["--vqvae-path=TOKENS", "--rollout.window=4", "--alignment.against=nowhere"],
            "alignment.against: nowhere",
        ),
        (["--vqvae-path=TOKENS", "--lambda-commit=0"], "it would do nothing"),
        (["--vqvae-path=TOKENS"], "rollout.window = 2 is shorter than features.clip = 4"),
        (["--vqvae-path=TOKENS", "--features.clip=5"], "features.clip: 4, expected 5"),
        (
            ["--vqvae-path=TOKENS", "--features.channels=each"],
            "features.channels: mean, expected each",
        ),
        (
            ["--vqvae-path=TOKENS", "--enable-latent-loss", "--latent-sample-steps=3"],
            "alignment.sample_steps = 3 is more than rollout.window = 2",
        ),
        (
            ["--vqvae-path=TOKENS", "--enable-latent-loss", "--latent-sample-steps=0"],
            "sample_steps",
        ),
        (["--vqvae-path=TOKENS", "--enable-latent-loss", "--lambda-latent=0"], "loss.latent = 0"),
    ],
)
def test_wrong_settings(run_noa, tokens, capsys, words, named):
    assert run_noa("train", *(word.replace("TOKENS", str(tokens)) for word in words)) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert named in message
    assert "Traceback" not in message
    assert not Path("runs").exists()


def test_other_channels_are_refused_with_both(run_noa, tokens, tmp_path, capsys):
    folder = tmp_path / "heat"
    words = ("--data.domain=heat", "--data.num_train=2", "--data.num_valid=1", "--data.num_test=1")
    size = ("--data.num_steps=4", "--data.shape=16,16")
    assert main(["generate", f"--data={folder}", *words, *size]) == 0
    found = run_noa("train", f"--vqvae-path={tokens}", "--rollout.window=4", data=folder)
    assert found == 2
    assert "channels: ['u', 'v'], expected ['" in " ".join(capsys.readouterr().err.split())
