import pytest
from nops_train._config import Config, DataConfig, TrainConfig
from pydantic import ValidationError


class Whole(Config):
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "epochs", 0),
        ("train", "epochs", "3"),
        ("train", "epochs", True),
        ("train", "epochs", 3.0),
        ("train", "learning_rate", 0.0),
        ("train", "learning_rate", float("nan")),
        ("train", "learning_rate", float("inf")),
        ("train", "grad_clip", 0.0),
        ("train", "weight_decay", -1e-3),
        ("train", "ema_decay", 1.0),
        ("train", "lr_schedule", "linear"),
        ("train", "precision", "fp8"),
        ("train", "warmup_steps", -1),
        ("train", "seed", -1),
        ("train", "seed", 2**63),
        ("train", "keep_last", 0),
        ("train", "monitor", ""),
        ("train", "freeze", "encoder"),
        ("data", "shape", ()),
        ("data", "shape", (8, 0)),
        ("data", "shape", (8, 8, 8, 8)),
        ("data", "num_train", 0),
        ("data", "path", ""),
        ("data", "layout", "spinlock"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(section, key, value):
    with pytest.raises(ValueError, match=rf"{section}\.{key}"):
        Whole.model_validate({section: {key: value}})


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(ValueError, match=r"train\.epoch\n"):
        Whole.model_validate({"train": {"epoch": 3}})


def test_more_micro_batches_than_samples_are_refused():
    with pytest.raises(ValueError, match=r"accumulate \(8\) is more than batch_size \(4\)"):
        TrainConfig(accumulate=8, batch_size=4)
    assert TrainConfig(accumulate=4, batch_size=4).accumulate == 4


@pytest.mark.parametrize(
    "clash", [{"compile": True}, {"gradient_norm_per_term": True}, {"precision": "fp16"}]
)
def test_what_does_not_go_with_parts_is_refused_by_name(clash):
    assert TrainConfig(**clash)
    with pytest.raises(ValueError, match=f"shard does not go with {next(iter(clash))}"):
        TrainConfig(shard=True, **clash)


def test_every_section_is_frozen():
    config = TrainConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3


def test_json_and_python_spell_one_config():
    config = Whole(train=TrainConfig(freeze=("encoder.*",)), data=DataConfig(shape=(8, 9)))
    assert Whole.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("section", [TrainConfig, DataConfig])
def test_every_key_says_what_it_is(section):
    for name, field in section.model_fields.items():
        assert field.description, name
        assert field.description[0].isupper(), name
