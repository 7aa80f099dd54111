"""The commands that read tokens: validate, diagnose, align, from a tiny run and a tiny vocabulary."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from noa import load_vocabulary, load_vqvae_codebook
from noa.cli import main
from nops_models import LatentProjector
from nops_train import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Trained:
    run: Path
    tokens: Path
    data: Path

    def validate(self, *words):
        given = [f"--data={self.data}", "--data.num_test=6", *words]
        return main(["validate", str(self.run), str(self.tokens), *given])

    def diagnose(self, *words):
        return main(["diagnose", str(self.run), str(self.tokens), *words])

    def read(self, name, *, folder=None):
        return json.loads(((folder or self.run) / name).read_text())


@pytest.fixture(scope="module")
def trained(whole, tokens, tmp_path_factory):
    """Copies of a run and of a vocabulary, and their data with three more trajectories held out."""
    root = tmp_path_factory.mktemp("trained")
    data = root / "data"
    counts = ("num_train=6", "num_valid=3", "num_test=6", "num_steps=4", "shape=16,16")
    assert main(["generate", f"--data={data}", *(f"--data.{count}" for count in counts)]) == 0
    run = Path(shutil.copytree(whole, root / "run"))
    return Trained(run, Path(shutil.copytree(tokens, root / "tokens")), data)


@pytest.fixture
def unwritten(monkeypatch):
    """No report is drawn: that takes longer than all the rest."""
    monkeypatch.setattr("noa.training.write_report", lambda run: run.report)
    monkeypatch.setattr("noa.diagnose.write_diagnosis", lambda run, found, config: run.report)


@pytest.fixture
def rollouts(monkeypatch):
    """`rollouts(change)`: the model's rollouts are the truth, changed by a function."""

    def replaced(change):
        from noa.evaluation import collect

        held = {}

        def kept(batches):
            held["truth"] = collect(batches)
            return held["truth"]

        def truth(model, *, num_steps, batch_size):
            return lambda initial, parameters: change(held["truth"][0][:, 1 : num_steps + 1])

        monkeypatch.setattr("noa.training.collect", kept)
        monkeypatch.setattr("noa.training.batched_rollout", truth)

    return replaced


def test_diagnosis_and_validation_are_written_and_joined_in_the_report(trained, capsys):
    best = trained.run / "checkpoints" / "best_model.pt"
    words = [f"--noa-checkpoint={best}", f"--vqvae-path={trained.tokens}"]
    words += [f"--dataset={trained.data}", "--n-samples=5", "--timesteps=4"]
    assert main(["diagnose", *words]) == 1  # six steps of training make no surrogate
    out, err = capsys.readouterr()
    assert "1. VQ Reconstruction Quality" in out
    assert "Final Verdict: POOR" in out
    assert "POOR, failed gates: " in err
    found = trained.read("diagnosis.json")
    assert found["verdict"] == "POOR"
    assert found["failed"]
    assert set(found["gates"]) == {"skill", "parameters", "collapse", "correspondence"}
    assert found["sections"]["correlation"]["grade"] == "not trained"
    assert found["position"]["step"] == load_checkpoint(best)["position"]["step"]
    page = (trained.run / "diagnosis.html").read_text()
    assert "Diagnosis: gates" in page
    code = trained.validate()
    tokens = trained.read("validation.json")["tokens"]
    assert code == (1 if tokens["grade"] == "failed" else 0)
    assert tokens["vqvae"] == str(trained.tokens)
    assert set(tokens["ratio"]) == {"total", "initial", "summary", "temporal"}
    assert trained.read("validation.json")["physics"]["lead"]["4"]["nmse"]["value"] > 0
    page = (trained.run / "report.html").read_text()
    assert "Tokens: reconstruction" in page
    assert "Diagnosis: gates" in page


def test_a_projector_in_the_checkpoint_is_graded(trained, unwritten, capsys):
    best = trained.run / "checkpoints" / "best_model.pt"
    state = load_checkpoint(best)
    vocabulary = load_vocabulary(trained.tokens)
    for width, code in ((vocabulary.latent_dim, 1), (5, 2)):
        projector = LatentProjector(4 * 4, width)  # base_channels 4, two levels
        weights = {f"projector.{name}": value for name, value in projector.state_dict().items()}
        file = best.with_name(f"projected_{width}.pt")
        save_checkpoint(file, {**state, "model": {**state["model"], **weights}})
        assert trained.diagnose(f"--noa-checkpoint={file}") == 2  # a run and a checkpoint: which?
        words = [f"--noa-checkpoint={file}", f"--vqvae-path={trained.tokens}"]
        assert main(["diagnose", *words, f"--dataset={trained.data}"]) == code
    assert (
        f"gives 5 latents, {trained.tokens} has {vocabulary.latent_dim}" in capsys.readouterr().err
    )
    found = trained.read("diagnosis.json")
    assert found["weights"].endswith(f"projected_{vocabulary.latent_dim}.pt")
    assert -1 <= found["sections"]["correlation"]["cosine"] <= 1
    assert found["gates"]["correspondence"]["passed"] is not None


def test_the_truth_as_model(trained, rollouts, unwritten, capsys):
    rollouts(lambda truth: truth)
    assert trained.validate() == 0
    tokens = trained.read("validation.json")["tokens"]
    assert tokens["grade"] == "excellent"
    assert {(r["value"], r["low"], r["high"]) for r in tokens["ratio"].values()} == {(1, 1, 1)}
    assert {kl["value"] for kl in tokens["kl"].values()} == {0}
    assert max(one["value"] for one in tokens["wasserstein"].values()) < 1e-12
    assert {one["value"] for one in tokens["energy"].values()} == {0}
    assert "truth's: 1 [1, 1]: excellent" in capsys.readouterr().out.replace("\n", " ")


def test_rollouts_that_do_not_tokenise_end_with_1(trained, rollouts, unwritten, capsys):
    rollouts(lambda truth: torch.full_like(truth, float("inf")))
    assert trained.validate() == 1
    assert "6 of 6 rollouts are not finite, the first at lead 1" in capsys.readouterr().err
    assert trained.read("validation.json")["tokens"] is None
    monkeypatched = pytest.MonkeyPatch()
    with monkeypatched.context() as patch:
        patch.setattr("noa.validation.GRADES", {"acceptable": 1e-6})
        rollouts(lambda truth: truth.flip(-1) + torch.linspace(0, 3, 16))
        assert trained.validate() == 1
    assert "Reconstruction error of rollouts over the truth's" in capsys.readouterr().err


def test_without_a_vocabulary_physics_alone(trained, unwritten):
    assert main(["evaluate", str(trained.run)]) == 0
    assert trained.read("validation.json")["tokens"] is None


def test_what_diagnose_and_validate_refuse(trained, tmp_path, capsys):
    run, tokens, data = map(str, (trained.run, trained.tokens, trained.data))
    stray = tmp_path / "stray.pt"
    stray.write_bytes(b"")
    for words, named in (
        (["diagnose", run], "--vqvae-path"),
        (["diagnose"], "--noa-checkpoint FILE"),
        (["diagnose", run, tokens, f"--vqvae-path={tokens}"], "give one of them"),
        (["diagnose", run, tokens, "--n-samples=99"], "--n-samples 99: expected 2 to 3"),
        (["diagnose", run, tokens, "--timesteps=5"], "--timesteps 5: expected 1 to 4"),
        (["diagnose", run, tokens, "--timesteps=3"], "rollouts of 3 steps"),
        (["diagnose", tokens, tokens], "expected one of `noa train`"),
        (["diagnose", run, run], "expected one of `noa train-vqvae`"),
        (["diagnose", f"--noa-checkpoint={stray}", f"--vqvae-path={tokens}"], "checkpoints/"),
        (["validate", run, tokens], "data.num_test = 3"),
        (["align", tokens, run], "expected one of `noa train-vqvae`"),
        (["align", tokens, tokens, f"--probe={data}"], "signature reads no clips"),
        (["align", tokens, tokens, "--mode=tables"], "--mode"),
    ):
        assert main(words) == 2, words
        message = capsys.readouterr().err
        assert named in message, message
        assert "Traceback" not in message


@pytest.mark.parametrize("mode", ["signature", "behaviour", "geometry"])
def test_a_vocabulary_is_aligned_with_itself(trained, monkeypatch, capsys, mode):
    if mode != "signature":
        monkeypatch.setattr("noa.align.write_alignment", lambda path, *_, **__: path)
    words = [f"--mode={mode}", "--num-null=30"]
    if mode != "signature":
        words.append(f"--probe={trained.data}")
    assert main(["align", str(trained.tokens), str(trained.tokens), *words]) == 0
    found = trained.read("alignment_tokens.json", folder=trained.tokens)
    assert found["mode"] == mode
    if mode != "behaviour":  # where a quantizer with one token alone has nothing to share
        assert found["score"] == pytest.approx(1, abs=1e-5)
    assert found["null_quantiles"]["0.95"] < found["score"]
    assert "by chance" in capsys.readouterr().out
    used = len(found["rows"])
    assert [len(found["matrix"]), len(found["matrix"][0])] == [used, used]
    if mode == "signature":
        assert found["verdict"] == "strong"
        assert all(pair["a"] == pair["b"] for pair in found["pairs"])
        assert found["pairs"][0]["features"]
        page = (trained.tokens / "alignment_tokens.html").read_text()
        assert "data:image/png;base64," in page
        assert "Score beside chance" in page


def test_codebooks_without_shared_columns(trained, monkeypatch, capsys):
    book = load_vqvae_codebook(trained.tokens)
    books = iter([book, replace(book, names=tuple(f"other/{name}" for name in book.names))])
    monkeypatch.setattr("noa.align.load_vqvae_codebook", lambda folder: next(books))
    assert main(["align", str(trained.tokens), str(trained.tokens)]) == 2
    message = capsys.readouterr().err
    assert "share no column" in message
    assert "--mode behaviour --probe FOLDER" in message
