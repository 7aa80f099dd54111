"""`torch.compile` as an option: the same training, and a way on where it fails."""

import pytest
import torch
from nops_train._engine_compile import compile_model, with_fallback
from torch import nn

# Python 3.13.0 alone; in a run it stays a warning
pytestmark = pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")


@pytest.fixture(autouse=True)
def clean_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def use_eager(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compile with a backend that runs the graph as it is; a list of the calls to graphs."""
    calls: list[int] = []

    def backend(graph, inputs):
        del inputs

        def run(*args):
            calls.append(len(args))
            return graph.forward(*args)

        return run

    plain = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: plain(self, backend=backend, dynamic=False)
    )
    return calls


def test_a_compiled_run_trains_as_the_plain_one(toy, tmp_path, monkeypatch):
    calls = use_eager(monkeypatch)
    models = []
    for compiled in (False, True):
        options = {"norm": False, "dropout": 0.0}
        settings = toy.config(compile=compiled)
        made = toy.engine(tmp_path / str(compiled), model=options, settings=settings)
        made.fit(toy.train, toy.valid)
        models.append(made.net.state_dict())
        assert bool(calls) == compiled
    for name, value in models[0].items():
        torch.testing.assert_close(models[1][name], value)


def test_a_compiler_that_fails_is_left_out_and_told(toy, tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no C++ compiler")

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: plain(self, backend=broken))
    made = toy.engine(tmp_path, settings=toy.config(compile=True, epochs=1))
    made.fit(toy.train, toy.valid)
    notes = (made.run.path / "sessions.jsonl").read_text()
    assert "torch.compile failed, training goes on without: BackendCompilerFailed" in notes
    assert made.state.step > 0


class Layers(nn.Module):
    """A module of one's own: some releases of torch leave a bare container uncompiled."""

    def __init__(self) -> None:
        super().__init__()
        gelu = nn.GELU()
        self.layers = nn.Sequential(nn.Linear(3, 8), gelu, nn.Linear(8, 8), gelu, nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_a_compiled_graph_is_walked_term_by_term(monkeypatch):
    """As the inert check, norms by term and gradient-balancing weightings do."""
    plain_compile = nn.Module.compile
    monkeypatch.setattr(  # inductor without its last part, the C++ compiler
        nn.Module, "compile", lambda self: plain_compile(self, backend="aot_eager")
    )
    model = Layers()
    parameters = list(model.parameters())
    x = torch.linspace(-1.0, 1.0, 12).view(4, 3)

    def gradients() -> list[torch.Tensor]:
        pred = model(x)
        terms = (pred.square().mean(), pred.abs().mean())
        found = [torch.autograd.grad(t, parameters, retain_graph=True) for t in terms]
        return [part for parts in found for part in parts]

    plain = gradients()
    compile_model(model)
    assert with_fallback(model, lambda: model(x).sum().backward(), enabled=True) is None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for left, right in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(left, right)


def test_a_split_model_is_told(monkeypatch):
    use_eager(monkeypatch)

    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return 2 * x

    model = Split()
    compile_model(model)
    told = with_fallback(model, lambda: _use(model), enabled=True)
    assert told is not None
    assert told.startswith("torch.compile split the model 1 times; first:")


def test_errors_of_the_model_itself_are_not_the_compilers(monkeypatch):
    use_eager(monkeypatch)
    model = nn.Linear(2, 2)
    compile_model(model)
    with pytest.raises(RuntimeError, match="our own"):
        with_fallback(model, _fail, enabled=True)
    assert with_fallback(model, lambda: _use(model), enabled=False) is None


def _use(model: nn.Module) -> None:
    model(torch.ones(2))


def _fail() -> None:
    raise RuntimeError("our own")
