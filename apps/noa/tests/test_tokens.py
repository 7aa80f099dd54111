"""The VQ-VAE's training: kept whole over interruptions, refused with other features, read by others."""

import json
import os
import shutil
import signal
from pathlib import Path

import noa
import pytest
import torch
from noa.api import transfer_accuracy
from noa.cli import main
from noa.features import FEATURES, FeatureSet
from noa.token_task import TokenTask, left_to_quantize, quantizers_of
from noa.vocabulary import Definition, load_vocabulary
from nops_data import open_splits
from nops_diagnostics import compute_alignment
from nops_models import VQVAE, VQVAEConfig
from nops_train import InputError, load_checkpoint
from torch.testing import assert_close

RUN = Path("runs/noa/tokens")


@pytest.fixture(scope="module")
def vocabulary(tokens):
    return load_vocabulary(tokens)


@pytest.fixture(scope="module")
def clips(data_folder):
    """Clips and initial states of the test split, in the data's units."""
    reader = open_splits(data_folder).test
    frames = torch.stack([torch.as_tensor(reader.read(i)) for i in range(3)])
    return frames[:, 1:], frames[:, 0]


def test_a_run_leaves_everything_it_promises(tokens, events):
    summary = json.loads((tokens / "summary.json").read_text())
    assert (summary["status"], summary["epochs"], summary["steps"]) == ("completed", 2, 4)
    assert summary["best"]["metric"] == "reconstruction"
    metrics = summary["metrics"]
    assert metrics["reconstruction"].keys() == {"all", "initial", "summary", "temporal"}
    assert len(metrics["tokens"]) == 9
    for row in metrics["tokens"].values():
        assert 0 < row["utilisation"] <= 1
        assert 1 <= row["perplexity"] <= row["codes"] + 1e-9
    html = (tokens / "report.html").read_text()
    assert {path.stem for path in (tokens / "plots").glob("*.png")} == {"usage", "training"}
    assert "What tokens say about θ" in html
    steps = [event for event in events(tokens) if event["event"] == "train"]
    assert set(steps[0]["raw"]) == {"reconstruction", "commitment", "partial"}
    valid = next(e["metrics"] for e in events(tokens) if e["event"] == "validation")
    shares = [valid[f"reconstruction_{name}"] for name in ("initial", "summary", "temporal")]
    assert min(shares) <= valid["reconstruction"] <= max(shares)


# inside the first epoch, right after it, at the last step
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_interrupted_equals_uninterrupted(train_tokens, equal_runs, tokens, cut, monkeypatch):
    plain, count = TokenTask.losses, iter(range(1000))

    def losses(self, batch, **where):
        # the first call is the engine's check that every term trains something
        if next(count) == cut + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, **where)

    with monkeypatch.context() as patch:
        patch.setattr(TokenTask, "losses", losses)
        assert train_tokens() == 143
    assert train_tokens() == 0
    equal_runs(tokens, RUN)


def test_a_skipped_step_moves_no_code(train_tokens, events, equal_runs, tmp_path, monkeypatch):
    plain = TokenTask.losses

    def run(name: str, *, interrupt: bool) -> int:
        count = iter(range(1000))

        def losses(self, batch, **where):
            index, terms = next(count), plain(self, batch, **where)
            if interrupt and index == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return {k: v * float("nan") if index == 2 else v for k, v in terms.items()}

        with monkeypatch.context() as patch:
            patch.setattr(TokenTask, "losses", losses)
            return train_tokens(f"--name={name}", "--vqvae.epochs=1")

    assert run("whole", interrupt=False) == 0
    assert run("cut", interrupt=True) == 143
    assert train_tokens("--name=cut", "--vqvae.epochs=1") == 0
    runs = tmp_path / "runs/noa"
    assert [e["event"] for e in events(runs / "cut")].count("skipped") == 1
    equal_runs(runs / "whole", runs / "cut")
    state = load_checkpoint(runs / "cut" / "checkpoints" / "epoch_1.pt")["model"]
    updates = [int(v) for k, v in state.items() if k.endswith("num_updates")]
    assert updates == [1] * 9  # of two steps


@pytest.mark.parametrize("structure", ["parallel", "residual"])
def test_terms_and_what_is_left_to_quantize(structure):
    torch.manual_seed(0)
    config = VQVAEConfig(
        categories={"a": (0, 1, 2), "b": (3, 4)},
        levels=2,
        ratios=(0.5, 1.0),
        latent_dims=(4, 4),
        codebook_sizes=(4, 3),
        hidden=(8,),
        structure=structure,
    )
    model = VQVAE(config)
    features = torch.randn(32, 5)
    model(features)  # the k-means start
    model.eval()
    task, names = TokenTask(model), ("reconstruction", "commitment", "partial")
    every = frozenset((*names, "orthogonality", "topographic", "entropy"))
    terms = task.losses({"features": features}, epoch=0, step=0, active=every)
    assert terms.keys() == every
    found = model(features)
    apart = torch.stack([z - e for z, e in zip(found.latents, found.codes, strict=True)])
    assert_close(terms["commitment"], apart.square().mean())
    assert_close(terms["partial"], (found.partial - features[:, None]).square().mean())
    rows = left_to_quantize(model, found.latents, found.codes)
    for row, quantizer, index in zip(rows, quantizers_of(model), found.indices.T, strict=True):
        assert torch.equal(quantizer(row).index, index)  # each table is asked for what it was given
    metrics = task.metrics({"features": features})
    assert_close(metrics["reconstruction"].mean(), terms["reconstruction"])
    assert_close(
        (3 * metrics["reconstruction_a"] + 2 * metrics["reconstruction_b"]) / 5,
        metrics["reconstruction"],
    )


def test_a_vocabulary_reads_clips_in_the_units_of_the_data(vocabulary, tokens, data_folder, clips):
    features = vocabulary.features(*clips)
    normaliser = open_splits(data_folder).normaliser
    plain = vocabulary.extractor(*(normaliser.normalise(part) for part in clips))
    assert_close(features, plain)
    latents = vocabulary.latents(features)
    assert len(latents) == len(vocabulary.num_codes) == len(vocabulary.token_names) == 9
    assert vocabulary.latent_dim == sum(z.shape[1] for z in latents) == 3 * (4 + 4 + 8)
    found = vocabulary.tokens(features)
    assert found.shape == (3, 9)
    for place, (code, quantizer) in enumerate(
        zip(vocabulary.codes(latents), quantizers_of(vocabulary.model), strict=True)
    ):
        assert_close(code, quantizer.codebook[found[:, place]])
    assert_close(
        vocabulary.reconstruct(features), vocabulary.model.decode(vocabulary.codes(latents))
    )
    assert torch.equal(noa.extract_features(clips[0], tokens=tokens, initial=clips[1]), features)


def test_gradients_reach_the_clip_and_no_weight(vocabulary, clips):
    clip = clips[0].clone().requires_grad_()
    latents = vocabulary.latents(vocabulary.features(clip, clips[1]))
    torch.cat(latents, -1).square().sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()
    assert clip.grad.flatten(2).any(-1).all()  # every frame
    assert not any(p.requires_grad for p in vocabulary.model.parameters())


def test_a_codebook_is_like_itself(tokens):
    codebook = noa.load_vqvae_codebook(tokens)
    assert codebook.signatures is not None
    assert codebook.counts is not None
    assert codebook.signatures.shape == (3 * (3 + 2 + 2), len(codebook.names))
    assert codebook.counts.sum() == 9 * 24  # nine tokens of 24 clips
    assert compute_alignment(codebook, codebook, num_null=20).score > 0.99


def test_another_extractor_is_refused_by_data_set_tokens_and_report(tokens, tmp_path, capsys):
    folder = Path(shutil.copytree(tokens, tmp_path / "copy"))
    held = FeatureSet.load(folder / FEATURES)
    moved = {**held.state, "fit": {**held.state["fit"], "mean": held.state["fit"]["mean"] + 1}}
    with pytest.raises(InputError, match=r"mean: \d+ of \d+ columns differ"):
        held.check(moved, where="altered")
    FeatureSet(**{**vars(held), "state": moved}).save(folder / FEATURES)
    assert main(["report", str(folder)]) == 2
    assert "columns differ" in capsys.readouterr().err
    with pytest.raises(InputError, match="columns differ"):
        noa.load_vqvae_codebook(folder)
    extractor, sizes = held.extractor, VQVAEConfig(categories={"a": (0,)})
    stored = Definition(extractor, sizes, channels=("u", "v"))
    extractor.load_state_dict(moved)
    with pytest.raises(InputError, match="columns differ"):
        Definition(extractor, sizes, channels=("u", "v")).load_state_dict(stored.state_dict())
    with pytest.raises(InputError, match=r"channels \['u', 'v'\], found \['u'\]"):
        Definition(held.extractor, sizes, channels=("u",)).load_state_dict(stored.state_dict())


def test_other_definitions_are_refused_with_both_versions(tokens, monkeypatch):
    monkeypatch.setattr("nops_diagnostics._features.version_of", lambda *a, **k: "other")
    with pytest.raises(InputError, match=r"version: '\w+', expected 'other'"):
        load_vocabulary(tokens)


def test_clusters_are_categories(train_tokens):
    words = ("--vqvae.categories=cluster", "--vqvae.epochs=1", "--vqvae.loss.orthogonality=0.1")
    assert train_tokens(*words) == 0
    assert len(load_vocabulary(RUN).categories) > 3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--features.clip=6"], "features.clip = 6 frames, but data.num_steps = 4 gives 5"),
        (["--train.epochs=3"], "set vqvae.epochs"),
        (["--lr=3e-4"], "set vqvae.learning_rate"),
        (["--rollout.window=2"], "without effect on train-vqvae"),
        (
            ["--vqvae.codebook_sizes=4,2"],
            "codebook_sizes needs one number for each of the 3 levels",
        ),
        (["--vqvae.weighting.kind=curriculum"], "vqvae: weighting"),
        (["--vqvae.batch_size=1"], "vqvae.batch_size"),
    ],
)
def test_wrong_settings(train_tokens, capsys, words, named):
    assert train_tokens(*words) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert named in message
    assert not RUN.exists()


def test_a_run_of_the_other_training_is_refused(run_noa, train_tokens, tokens, finished, capsys):
    assert train_tokens("--name=default") == 2
    assert "a run of `noa train`" in capsys.readouterr().err
    shutil.copytree(tokens, RUN)
    assert run_noa("train", "--name=tokens") == 2
    assert main(["evaluate", str(RUN)]) == 2
    assert capsys.readouterr().err.count("a run of `noa train-vqvae`") == 2
    with pytest.raises(InputError, match="a run of `noa train`"):
        load_vocabulary(finished)


def test_fewer_clips_than_codes_start_with_repeats(train_tokens):
    with pytest.warns(UserWarning, match="the rest are repeats"):
        assert train_tokens("--vqvae.codebook_sizes=14,2,2", "--vqvae.revive_below=0.1") == 0


def test_a_surrogate_is_trained_and_scored_by_name(
    data_folder, tokens, whole, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("noa.training.write_report", lambda run: run.path / "report.html")
    data = f"--data={data_folder}"
    tiny = ("--model.base_channels=4", "--model.afno_groups=2", "--evaluate.bootstrap=20")
    sizes = (*tiny, "--train.epochs=1", "--train.batch_size=3", "--train.warmup_steps=1")
    run = noa.train_noa(domain="rd", tokens=tokens, options=(data, *sizes))
    assert load_checkpoint(run / "checkpoints" / "epoch_1.pt")["config"]["rollout"]["window"] == 4
    scores = noa.evaluate_noa(whole, domain="rd", tokens=tokens, options=(data, *sizes))
    stored = json.loads((whole / "summary.json").read_text())["metrics"]["lead"]
    assert scores["lead"]["4"]["nmse"]["value"] == pytest.approx(stored["4"]["nmse"]["value"])
    assert 0 <= scores["shuffled_acc"] <= 1
    assert scores["majority_acc"] >= 1 / 3  # of three trajectories
    assert 0 <= scores["transfer_acc"] <= 1


def test_transfer_accuracy_of_the_truth_is_1(vocabulary, clips):
    frames, initial = clips
    found = transfer_accuracy(vocabulary, frames, frames, initial)
    assert found["transfer_acc"] == 1
    tokens = vocabulary.tokens(vocabulary.features(frames, initial))
    most = [max(torch.bincount(column).tolist()) / 3 for column in tokens.T]
    assert found["majority_acc"] == pytest.approx(sum(most) / 9)
    with pytest.raises(InputError, match="clips of 4 frames"):
        transfer_accuracy(vocabulary, frames[:, :3], frames[:, :3], initial)
