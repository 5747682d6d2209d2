"""From the command line to a settled tree."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.compose import dump, inherited_keys, open_overrides, read, settle, shipped_trainer
from pipeline.errors import ConfigError
from tests.config.compositions import compose

OPENED = {
    "value": ("trainer.seed=1", "++trainer.seed=1"),
    "new key": ("trainer.optimizer.config.momentum=0.9", "++trainer.optimizer.config.momentum=0.9"),
    "value outside Hydra's grammar": ("run.name=a=b", "++run.name='a=b'"),
    "sweep": ("trainer.seed=1,2", "++trainer.seed=1,2"),
    "top level": ("run=x", "++run=x"),
    "misspelt group": ("modle=SEANet_real", "++modle=SEANet_real"),
    "group": ("model=SEANet_real", "model=SEANet_real"),
    "sweep over a group": ("model=SEANet_real,SEANet_complex", "model=SEANet_real,SEANet_complex"),
    "experiment": ("experiment=default", "experiment=default"),
    "launcher": ("hydra/launcher=submitit_local", "hydra/launcher=submitit_local"),
    "launcher's parameter": ("hydra.launcher.timeout_min=5", "hydra.launcher.timeout_min=5"),
    "added": ("+trainer.seed=1", "+trainer.seed=1"),
    "forced": ("++trainer.seed=1", "++trainer.seed=1"),
    "deleted": ("~trainer.seed", "~trainer.seed"),
    "flag": ("--multirun", "--multirun"),
    "flag with a value": ("--config-dir=conf", "--config-dir=conf"),
    "short flag": ("-m", "-m"),
    "value of a flag": ("job", "job"),
}


@pytest.mark.parametrize(("given", "opened"), OPENED.values(), ids=OPENED)
def test_open_overrides(given, opened):
    assert open_overrides(["-m", given, "trainer.seed=3"]) == ["-m", opened, "++trainer.seed=3"]


OWN_LAUNCHER = {
    "parameter": ("hydra.launcher.timeout_min=5", "++hydra.launcher.timeout_min=5"),
    "misspelt": ("hydra.launcher.timout_min=5", "++hydra.launcher.timout_min=5"),
    "option with a hyphen": (
        "hydra.launcher.additional_parameters.mail-type=END",
        "++hydra.launcher.additional_parameters.mail-type=END",
    ),
    "line of a shell": (
        "hydra.launcher.setup=export A=1",
        "++hydra.launcher.setup='export A=1'",
    ),
    "block": ("hydra.launcher={timeout_min:5}", "hydra.launcher={timeout_min:5}"),
    "of the sweep": ("hydra.sweep.dir=/a", "hydra.sweep.dir=/a"),
    "of the sweep, unreadable": ("hydra.sweep.dir=~/it's [1]", "hydra.sweep.dir='~/it\\'s [1]'"),
    "of the cluster": ("site.partition=gpu", "++site.partition=gpu"),
    "cluster": ("site=example", "site=example"),
}


@pytest.mark.parametrize(("given", "opened"), OWN_LAUNCHER.values(), ids=OWN_LAUNCHER)
def test_open_overrides_of_our_own_launcher(given, opened):
    own = "hydra/launcher=submitit_slurm"
    assert open_overrides(["-m", given, own]) == ["-m", opened, own]
    under_another = opened.removeprefix("++") if given.startswith("hydra.") else opened
    assert open_overrides([own, given, "hydra/launcher=basic"])[1] == under_another


def test_settings_of_the_launcher_are_not_swept():
    with pytest.raises(ConfigError, match="launch once for each value"):
        open_overrides(["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5,6"])


TEXTS = (
    "~/music",
    "/tmp/a(b)",
    "/tmp/\u00dcbung \u97f3",
    "it's",
    "a#b",
    "a=b",
    "a[x]",
    "a;b",
    "{x",
    r"a\'b",
    "it's\\",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_outside_the_grammar_is_text(text):
    assert compose(f"run.name={text}").tree["run"]["name"] == text


def test_text_beside_quotes_of_the_user():
    assert compose("run.name='~/a, b'").tree["run"]["name"] == "~/a, b"


@pytest.mark.parametrize("value", ["null", "", "3", "1.5", "true", "{seed:3}"])
@pytest.mark.parametrize("group", ["data", "model", "trainer", "experiment"])
def test_a_group_takes_the_name_of_a_file(group, value):
    with pytest.raises(ConfigError, match=rf"^{group}=.*conf/{group}; .*Valid: .*\w"):
        open_overrides([f"{group}={value}"])


def test_a_value_needs_a_key():
    with pytest.raises(ConfigError, match="key=value"):
        open_overrides(["=3"])


def test_given_keys():
    given = compose(
        "model=SEANet_real",
        "trainer.seed=3",
        "trainer.optimizer={type:SGD,config:{lr:0.1,momentum:0.9}}",
        "trainer.trainer.max_time={hours:1}",
        "trainer.loss_config.time.l1={}",
        "~trainer.loss_config.bottleneck",
    ).given
    assert given == {
        "model",
        "trainer.seed",
        "trainer.optimizer.type",
        "trainer.optimizer.config.lr",
        "trainer.optimizer.config.momentum",
        "trainer.trainer.max_time",
        "trainer.loss_config.time.l1",
        "trainer.loss_config.bottleneck",
    }


def test_overrides_are_kept_as_written():
    composition = compose("trainer.seed=3", "model=SEANet_real")
    assert composition.overrides == ("trainer.seed=3", "model=SEANet_real")
    assert composition.sweep_dir is None


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("trainer.optimizer.config.lr=${nowhere}", r"^trainer\.optimizer\.config\.lr: .*nowhere"),
        (
            "trainer.optimizer.config.lr=${oc.env:EULER_NOWHERE}",
            r"^trainer\.optimizer\.config\.lr: .*EULER_NOWHERE",
        ),
        ("trainer.seed=???", r"^trainer\.seed: .*[Mm]issing"),
        ("data.stft=null", r"^data\.stft: a block of keys .*trainer\.eval_loss_config\.stft\.fft_size"),
        ("model.encoder.config=null", r"^model\.encoder\.config: a block of keys .*model\.decoder\.config"),
    ],
)
def test_what_cannot_be_resolved_is_refused(override, path):
    with pytest.raises(ConfigError, match=path):
        compose(override)


# command line -> trainer.deterministic of the settled tree
DETERMINISM = {
    "shipped": ([], True),
    "owner off": (["trainer.deterministic=false"], False),
    "owner on": (["trainer.deterministic=true"], True),
    "alias alone wins": (["trainer.trainer.deterministic=false"], False),
    "alias alone, on": (["trainer.trainer.deterministic=true"], True),
    "alias null is not given": (["trainer.deterministic=false", "trainer.trainer.deterministic=null"], False),
    "the same twice": (["trainer.deterministic=false", "trainer.trainer.deterministic=false"], False),
    "strict": (["trainer.trainer.strict_deterministic=true"], True),
}


@pytest.mark.parametrize(("arguments", "expected"), DETERMINISM.values(), ids=DETERMINISM)
def test_determinism(arguments, expected):
    assert settle(compose(*arguments)).trainer.deterministic is expected


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (
            ["trainer.deterministic=true", "trainer.trainer.deterministic=false"],
            ["trainer.deterministic", "trainer.trainer.deterministic"],
        ),
        (
            ["trainer.deterministic=false", "trainer.trainer.deterministic=true"],
            ["trainer.deterministic", "trainer.trainer.deterministic"],
        ),
        (
            ["trainer.deterministic=false", "trainer.trainer.strict_deterministic=true"],
            ["trainer.deterministic", "trainer.trainer.strict_deterministic"],
        ),
        (
            ["trainer.trainer.deterministic=false", "trainer.trainer.strict_deterministic=true"],
            ["trainer.trainer.deterministic", "trainer.trainer.strict_deterministic"],
        ),
    ],
)
def test_contradicting_determinism(arguments, keys):
    with pytest.raises(ConfigError) as refusal:
        settle(compose(*arguments))
    assert all(key in str(refusal.value) for key in (*keys, "valid"))


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = settle(
        compose(
            "data=folder",
            "data.root=music",
            "data.cache_dir=~/cache",
            "data.eval_dataset.root=held/out",
            "trainer.trainer.ckpt_dir=../kept",
            "run.dir=here",
            "run.init_from=a.ckpt",
        )
    )
    assert config.data.root == str(tmp_path / "music")
    assert config.data.cache_dir == str(Path.home() / "cache")
    assert config.data.eval_dataset.root == str(tmp_path / "held/out")
    assert Path(config.trainer.trainer.ckpt_dir).is_absolute()
    assert (config.run.dir, config.run.init_from) == (str(tmp_path / "here"), str(tmp_path / "a.ckpt"))
    assert config.run.resume == "never"


def test_a_tree_is_read_as_it_was_written(tmp_path):
    config = settle(compose("model=SEANet_real", "trainer.optimizer.config.lr=1e-5"))
    dump(config, tmp_path / "config.yaml")
    assert read(tmp_path / "config.yaml") == config


def test_a_run_of_before_there_were_clusters_is_read(tmp_path):
    config = settle(compose())
    dump(config, tmp_path / "config.yaml")
    tree = OmegaConf.load(tmp_path / "config.yaml")
    del tree["site"], tree["container"]
    OmegaConf.save(tree, tmp_path / "config.yaml")
    assert read(tmp_path / "config.yaml") == config


def test_a_run_of_before_there_were_options_of_losses_and_memory_is_read(tmp_path):
    config = settle(compose("model=SEANet_real"))
    dump(config, tmp_path / "config.yaml")
    tree = OmegaConf.load(tmp_path / "config.yaml")
    for key in ("loss_balancer", "ema", "train_only"):
        del tree["trainer"][key]
    for key in ("chunk_frames", "activation_checkpointing", "latent_mask_ratio"):
        del tree["model"]["autoencoder"][key]
    OmegaConf.save(tree, tmp_path / "config.yaml")
    assert read(tmp_path / "config.yaml") == config


def test_reading_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.yaml: no such file"):
        read(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data: [", "cannot be read as a configuration"),
        ("- data", "holds a list"),
        ("just words", "data: required and not given"),
        ("", "data: required and not given"),
        ("data: ${nowhere}", "cannot be read as a configuration .*nowhere"),
    ],
)
def test_reading_what_is_damaged(text, reason, tmp_path):
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"config\.yaml: {reason}"):
        read(tmp_path / "config.yaml")


ADAMW = {"type": "AdamW", "config": {"lr": 3e-3, "betas": [0.9, 0.999]}}
WHERE = "trainer.optimizer"

# block, keys given on the command line -> inherited keys
INHERITED = {
    "nothing given": (ADAMW, [], set()),
    "type given": ({**ADAMW, "type": "SGD"}, [f"{WHERE}.type"], {"lr", "betas"}),
    "type and a key given": ({**ADAMW, "type": "SGD"}, [f"{WHERE}.type", f"{WHERE}.config.lr"], {"betas"}),
    "type from a file, values as shipped": ({**ADAMW, "type": "SGD"}, [], {"lr", "betas"}),
    "type and values from a file": ({"type": "SGD", "config": {"lr": 1.0, "betas": 2}}, [], set()),
    "new key from a file": ({"type": "SGD", "config": {"momentum": 0.9}}, [], set()),
    "same type given": (ADAMW, [f"{WHERE}.type"], {"lr", "betas"}),
    "no config": ({"type": "SGD", "config": None}, [f"{WHERE}.type"], set()),
}


@pytest.mark.parametrize(("block", "given", "expected"), INHERITED.values(), ids=INHERITED)
def test_inherited_keys(block, given, expected):
    assert inherited_keys(block, ADAMW, WHERE, frozenset(given)) == expected


def test_shipped_trainer_is_the_default_file():
    shipped = shipped_trainer()
    assert shipped["optimizer"]["type"] == "AdamW" and shipped["deterministic"] is True
