import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from nops_train._command_line import run_cli
from nops_train._command_line_report import report_error

TOY_FILE = Path(__file__).with_name("toy_app.py")
TOY = runpy.run_path(str(TOY_FILE))
APP = TOY["APP"]
LOG = Path("runs/toy/default/error.log")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "NOPS_TRACEBACK", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def run(*words):
    return run_cli(APP, words)


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("check", 1, "toy train: error: skill is below 0\n"),
        ("input", 2, "toy train: error: data.path: nothing there\n"),
        ("inert", 2, "toy train: error: the term latent reaches no trainable parameter\n"),
        ("value", 2, "toy train: error: pred and target need one shape\n"),
        ("file", 2, "toy train: error: gone.h5: No such file or directory\n"),
        ("config", 2, "epochs: Input should be greater than or equal to 1\n"),
        ("diverged", 3, "toy train: error: 10 steps in a row were not finite\n"),
        ("term", 143, "toy train: stopped by SIGTERM after saving; the same command continues\n"),
        ("int", 130, "toy train: stopped by SIGINT after saving; the same command continues\n"),
        ("keyboard", 130, "toy train: stopped by the keyboard\n"),
        ("gpu", 2, "toy train: error: not enough memory: CUDA out of memory. Tried to"),
        ("cpu", 2, "a smaller train.batch_size, a larger train.accumulate"),
        ("numpy", 2, "toy train: error: not enough memory: MemoryError\n"),
    ],
)
def test_each_end_has_its_code_and_one_clean_message(end, code, message, capsys):
    assert run("train", "--end", end) == code
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert not LOG.exists()  # no run folder, nothing to log in


def test_a_defect_keeps_its_traceback(capsys):
    assert run("train", "--end", "defect") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith("KeyError: 'lost'\n")


def test_done_is_0_and_a_command_may_say_otherwise(capsys):
    assert run("train") == 0
    assert json.loads(capsys.readouterr().out)["train"]["epochs"] == 2
    assert run("train", "--code", "1") == 1


@pytest.mark.parametrize(
    ("end", "told"), [("value", True), ("defect", True), ("diverged", True), ("input", False)]
)
def test_the_traceback_goes_to_the_run_folder(end, told, capsys):
    LOG.parent.mkdir(parents=True)
    run("train", "--end", end)
    run("train", "--end", end)
    text = LOG.read_text()
    assert text.count("Traceback (most recent call last)") == 2  # appended
    assert str(TOY["RAISED"][end]) in text
    assert (str(LOG) in capsys.readouterr().err) == told


@pytest.mark.parametrize("end", ["term", "keyboard"])
def test_an_interruption_leaves_no_error_log(end):
    LOG.parent.mkdir(parents=True)
    run("train", "--end", end)
    assert not LOG.exists()


def test_a_log_that_cannot_be_written_hides_nothing(capsys):
    LOG.mkdir(parents=True)  # a folder where the file would be
    assert run("train", "--end", "value") == 2
    assert "pred and target need one shape" in capsys.readouterr().err


def test_bad_usage_never_writes_into_a_run(capsys):
    LOG.parent.mkdir(parents=True)
    assert run("train", "--train.epoch", "3") == 2
    assert "did you mean --train.epochs?" in capsys.readouterr().err
    assert not LOG.exists()


def test_the_traceback_is_shown_on_request(monkeypatch, capsys):
    run("train", "--end", "value")
    assert "NOPS_TRACEBACK=1 shows the traceback" in capsys.readouterr().err
    monkeypatch.setenv("NOPS_TRACEBACK", "1")
    run("train", "--end", "value")
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "toy train: error: pred and target need one shape" in err


def test_another_rank_says_which_it_is(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    run("train", "--end", "value")
    assert "[rank 1] toy train: error:" in capsys.readouterr().err


def test_markup_in_a_message_is_text(capsys):
    report_error(ValueError("shape [2, 3] [red]x[/red] :smile:"), program="toy", folder=None)
    assert "shape [2, 3] [red]x[/red] :smile:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a command: train, evaluate, align, report (or --help)"),
        (("tran",), "tran: unknown command; did you mean train?"),
        (("zzz",), "zzz: unknown command; commands: train, evaluate"),
        (("--lr", "3", "train"), "--lr: the command comes first: train, evaluate"),
    ],
)
def test_a_missing_or_unknown_command_is_bad_usage(words, message, capsys):
    assert run(*words) == 2
    assert message in capsys.readouterr().err


def test_the_version_is_told(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == "toy 1.2.3\n"


# Help


def test_the_help_of_the_app_names_commands_and_presets(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    for words in ("evaluate = validate", "Compare two runs.", "default, paper", "--version"):
        assert words in out


def test_the_help_of_a_command_lists_every_option_with_default_and_description(capsys):
    assert run("train", "--help") == 0
    out = capsys.readouterr().out
    for section, model in (("train", "train"), ("data", "data"), ("rollout", "rollout")):
        fields = type(getattr(TOY["ToyConfig"](), model)).model_fields
        for name, field in fields.items():
            assert f"--{section}.{name} " in out
            assert " ".join(field.description.split()[:3]) in out
    words = " ".join(out.split())
    for line in (
        "--preset default|paper Packaged settings to start from. [default: default]",
        "--runs DIR Parent folder of all runs. [default: runs]",
        "--resume auto|never|force|FILE",
        "--seed INT Start of every random draw in training. Same as --train.seed.",
        "--verify Check instead.",
        "--lr FLOAT Learning rate, at its peak. Same as --train.learning_rate.",
        "--checkpoint-dir DIR Same as --runs.",
        "--n-samples INT Nine tenths are trained on.",
        "--enable-latent-loss Switch it on.",
        "--train.epochs INT Passes over the training set. [default: 2]",  # of the preset
        "--train.grad_clip FLOAT|null",
        "--data.shape INT,… Grid points along each axis. [default: [32, 32]]",
        '--weighting.kind constant|ramp Rule. [default: "constant"]',
        "--weighting.start INT Last epoch at 0. [default: 5]",
        "--alignment.vqvae TEXT Run folder. [required]",
        "--extra.smooth FLOAT [default: 0.5]",
        "--extra.NAME FLOAT",
        "rollout: Windows of back-propagation.",
    ):
        assert line in words, line


def test_help_shows_the_values_of_the_preset(capsys):
    for words in (("--preset", "paper"), ("--preset=paper",)):
        assert run("train", "--help", *words) == 0
        words = " ".join(capsys.readouterr().out.split())
        assert "--rollout.window INT Steps through which gradients flow. [default: 32]" in words
        assert "--weighting.start INT Last epoch at 0. [default: 2]" in words
        assert "taken from preset paper" in words


def test_the_help_of_other_commands_shows_what_they_take(capsys):
    run("align", "-h")
    words = " ".join(capsys.readouterr().out.split())
    assert "Usage: toy align RUN RUN [OPTIONS]" in words
    assert "--seeds INT,… Seeds. [default: [0]]" in words
    assert "--train" not in words
    run("evaluate", "--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "Usage: toy evaluate [RUN] [OPTIONS]" in words
    assert "taken from the run's config.yaml" in words
    run("report", "--help")
    assert "Usage: toy report PATH [PATH …] [OPTIONS]" in capsys.readouterr().out


def test_help_is_as_wide_as_asked_and_has_no_colour_in_a_pipe(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    run("train", "--help")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("train", "--help"), 0),
        (("--version",), 0),
        (("train", "--train.epoch", "3"), 2),
        (("train",), 0),
    ],
)
def test_no_path_to_a_message_imports_torch(words, code):
    done = subprocess.run(
        [sys.executable, str(TOY_FILE), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "torch was imported" not in done.stderr
