"""The typed tree: complete, without defaults of its own, and plain in what it refuses."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

from pipeline.config.deepspeed_schema import BLOCK_KEYS
from pipeline.config.schema import Config, parse
from pipeline.config.section import Section
from pipeline.config.trainer_schema import OWNED_ELSEWHERE, STRATEGIES, LightningSettings, TrainerSettings
from pipeline.errors import ConfigError
from tests.config.compositions import compose

ROOT = Path(__file__).resolve().parents[2]
LIGHTNING = set(inspect.signature(pl.Trainer).parameters)


@pytest.fixture(scope="module")
def shipped():
    """The tree of `python train.py`."""
    return compose().tree


def edited(tree, path, value):
    """A copy of the tree with one key set."""
    tree = copy.deepcopy(tree)
    *parents, leaf = path.split(".")
    section = tree
    for parent in parents:
        section = section[parent]
    section[leaf] = value
    return tree


def sections(section=Config):
    """Yields every section class of the tree."""
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


def test_every_keyword_of_lightnings_trainer_is_a_key_or_owned():
    owned = {path.rpartition(".")[2] for path in OWNED_ELSEWHERE}
    ours = set(LightningSettings.model_fields)
    assert not owned & ours
    assert (ours & LIGHTNING) | owned == LIGHTNING
    assert owned <= LIGHTNING


@pytest.mark.parametrize("path", OWNED_ELSEWHERE)
def test_a_keyword_owned_elsewhere_names_its_owner(path, shipped):
    with pytest.raises(ConfigError) as refusal:
        parse(edited(shipped, path, 1))
    assert str(refusal.value) == f"{path}: {OWNED_ELSEWHERE[path]}"


def test_owners_that_are_keys_exist(shipped):
    for sentence in OWNED_ELSEWHERE.values():
        for path in re.findall(r"(?:trainer|run)\.[\w.]*\w", sentence):
            section = shipped
            for key in path.split("."):
                section = section[key]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_defaults_stand_in_the_yaml_files(section):
    assert [name for name, field in section.model_fields.items() if not field.is_required()] == []


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_key_is_read(section):
    """A key that is accepted is honoured: its name occurs in the program, outside the schema."""
    program = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "pipeline").rglob("*.py")
        if path.parent.name != "config" or path.name == "compose.py"
    )
    read_by_the_schema = {"use_wandb", *BLOCK_KEYS}  # logger_names, deepspeed_config
    names = set(section.model_fields) - read_by_the_schema
    assert [name for name in names if not re.search(rf"\b{name}\b", program)] == []


GUIDE = """
trainer.seed trainer.strategy trainer.num_gpus trainer.precision trainer.deterministic trainer.logger
trainer.trainer.max_epochs trainer.trainer.max_steps trainer.trainer.gradient_clip_val
trainer.trainer.accumulate_grad_batches trainer.trainer.save_every_n_epochs trainer.trainer.deterministic
trainer.trainer.strict_deterministic trainer.trainer.num_sanity_val_steps trainer.trainer.check_val_every_n_epoch
trainer.trainer.log_every_n_steps trainer.trainer.save_top_k trainer.trainer.log_model_structure
trainer.trainer.ckpt_dir trainer.trainer.profile trainer.trainer.profiler_dir
trainer.optimizer.type trainer.optimizer.config.lr trainer.optimizer.config.betas
trainer.optimizer.config.weight_decay
trainer.scheduler.type trainer.scheduler.enabled trainer.scheduler.config.inv_gamma
trainer.scheduler.config.power trainer.scheduler.config.warmup
trainer.loss_config.spectral.stft_mse.config.reduction trainer.loss_config.spectral.weights.stft_mse
trainer.loss_config.bottleneck.weights.kl
trainer.eval_loss_config.sisdr.zero_mean trainer.eval_loss_config.sisdr.reduction
trainer.eval_loss_config.stft.sample_rate trainer.eval_loss_config.stft.fft_size
trainer.eval_loss_config.mel.n_mels
trainer.wandb.use_wandb data.train_dataloader.batch_size model.autoencoder.pre_transform
""".split()


@pytest.mark.parametrize("path", GUIDE)
def test_the_guides_keys_are_in_the_tree(path, shipped):
    section = shipped
    for key in path.split("."):
        assert key in section, path
        section = section[key]


WRONG = {
    "unknown at the top": (
        "modell",
        1,
        r"^modell: unknown key; did you mean 'model'\? Valid: container, data, model, run",
    ),
    "unknown below": (
        "data.stft.nfft",
        1,
        r"^data\.stft\.nfft: .*did you mean 'n_fft'\? Valid: hop_length, n_fft",
    ),
    "in the wrong section": (
        "trainer.max_steps",
        1,
        r"^trainer\.max_steps: .*mean trainer\.trainer\.max_steps",
    ),
    "text for a number": ("trainer.seed", "one", r"^trainer\.seed='one': .*integer"),
    "truth for a number": ("trainer.seed", True, r"^trainer\.seed=True: .*integer"),
    "decimal for a number": ("data.channels", 1.0, r"^data\.channels=1\.0: .*integer"),
    "number for a truth": ("trainer.deterministic", 1, r"^trainer\.deterministic=1: .*boolean"),
    "list for a number": ("data.segment_frames", [17], r"^data\.segment_frames=\[17\]: .*integer"),
    "text for a list": ("data.extensions", "wav", r"^data\.extensions='wav': .*list"),
    "number in a list": ("data.extensions", ["wav", 3], r"^data\.extensions\[1\]=3: .*string"),
    "null": ("data.cache_dir", None, r"^data\.cache_dir=None: .*string"),
    "negative": (
        "data.train_dataloader.num_workers",
        -1,
        r"^data\.train_dataloader\.num_workers=-1: .*or equal to 0",
    ),
    "zero": (
        "data.train_dataloader.batch_size",
        0,
        r"^data\.train_dataloader\.batch_size=0: .*greater than 0",
    ),
    "too large": ("trainer.seed", 2**32, r"^trainer\.seed=4294967296: .*less than 4294967296"),
    "share": ("data.eval_fraction", 1.0, r"^data\.eval_fraction=1\.0: .*less than 1"),
    "choice": (
        "trainer.precision",
        "bf16",
        r"^trainer\.precision='bf16': .*'32-true', '64-true', '16-mixed' or ",
    ),
    "no block": (
        "trainer.wandb",
        None,
        r"^trainer\.wandb=None: a block of keys .*keys: name, project, use_wandb",
    ),
    "free-form block": (
        "trainer.optimizer.config",
        None,
        r"^trainer\.optimizer\.config=None: a block of keys",
    ),
    "inside a free-form block": (
        "trainer.eval_loss_config.sisdr",
        3,
        r"^trainer\.eval_loss_config\.sisdr=3: a block",
    ),
    "empty path": ("data.root", "", r"^data\.root='': .*at least 1"),
    "strategy": ("trainer.strategy", "fsdp", r"^trainer\.strategy='fsdp': .*valid: auto, ddp"),
    "logger": ("trainer.logger", "csvv", r"^trainer\.logger='csvv': .*valid: csv, tensorboard, wandb, none"),
    "logger in a list": (
        "trainer.logger",
        ["csv", "tb"],
        r"^trainer\.logger=.*'tb'; valid: csv, tensorboard",
    ),
    "none among loggers": ("trainer.logger", ["csv", "none"], r"^trainer\.logger=.*none cannot be combined"),
    "GPUs": ("trainer.num_gpus", "two", r"^trainer\.num_gpus='two': .*integer or .*'auto'"),
    "duration": ("trainer.trainer.max_time", "1h", r"^trainer\.trainer\.max_time='1h': .*DD:HH:MM:SS"),
    "duration beyond all": (
        "trainer.trainer.max_time",
        "9999999999:00:00:00",
        r"^trainer\.trainer\.max_time='9999999999:00:00:00': too long",
    ),
    "negative duration": (
        "trainer.trainer.max_time",
        {"hours": -1},
        r"max_time={'hours': -1}: .*no negative",
    ),
    "duration without units": ("trainer.trainer.max_time", {}, r"^trainer\.trainer\.max_time={}: .*hours"),
    "unit": (
        "trainer.trainer.max_time",
        {"hour": 1},
        r"^trainer\.trainer\.max_time={'hour': 1}: .*days, hours",
    ),
    "share above 1": (
        "trainer.trainer.val_check_interval",
        7.5,
        r"^trainer\.trainer\.val_check_interval=7\.5: .*share",
    ),
    "no interval": (
        "trainer.trainer.val_check_interval",
        0,
        r"^trainer\.trainer\.val_check_interval=0: .*greater",
    ),
    "no batches": (
        "trainer.trainer.limit_train_batches",
        0,
        r"^trainer\.trainer\.limit_train_batches=0: .*greater",
    ),
    "name above": ("run.name", "../x", r"^run\.name='\.\./x': a name"),
    "absolute name": ("run.name", "/x", r"^run\.name='/x': a name"),
    "name with a line break": ("run.name", "a\nb", r"^run\.name='a\\nb': a name"),
}


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG)
def test_refusals(path, value, message, shipped):
    with pytest.raises(ConfigError, match=message):
        parse(edited(shipped, path, value))


def test_a_missing_key_is_named(shipped):
    tree = copy.deepcopy(shipped)
    del tree["data"]["stft"]["n_fft"]
    with pytest.raises(ConfigError, match=r"^data\.stft\.n_fft: required and not given"):
        parse(tree)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.trainer.max_time", "00:12:00:00"),
        ("trainer.trainer.max_time", {"hours": 1, "minutes": 30}),
        ("trainer.trainer.val_check_interval", 0.25),
        ("trainer.trainer.val_check_interval", 100),
        ("trainer.trainer.limit_train_batches", 1.0),
        ("trainer.trainer.limit_val_batches", 0),
        ("trainer.trainer.max_steps", -1),
        ("trainer.logger", ["csv", "tensorboard"]),
        ("trainer.logger", None),
        ("trainer.num_gpus", "auto"),
        ("run.name", "first try/b"),
        *(("trainer.strategy", name) for name in STRATEGIES),
    ],
)
def test_right_values_stay_as_they_are(path, value, shipped):
    config = parse(edited(shipped, path, value))
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value and type(config) is type(value)


@pytest.mark.parametrize(
    ("logger", "use_wandb", "names"),
    [
        ("csv", False, ("csv",)),
        ("csv", True, ("csv", "wandb")),
        ("wandb", True, ("wandb",)),
        (["csv", "tensorboard"], True, ("csv", "tensorboard", "wandb")),
        ("none", False, ()),
        ("none", True, ("wandb",)),
        (None, False, ()),
        ([], False, ()),
    ],
)
def test_logger_names(logger, use_wandb, names, shipped):
    tree = edited(edited(shipped, "trainer.logger", logger), "trainer.wandb.use_wandb", use_wandb)
    trainer: TrainerSettings = parse(tree).trainer
    assert trainer.logger_names == names


def test_segments_have_exactly_their_frames(shipped):
    data = parse(shipped).data
    assert data.segment_samples == (data.segment_frames - 1) * data.stft.hop_length
