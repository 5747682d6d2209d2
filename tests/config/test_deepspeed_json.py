"""`trainer.deepspeed`: a block, or a DeepSpeed JSON that becomes the block."""

import json
import re

import pytest

from pipeline.config.compose import dump, read, settle, shipped_trainer
from pipeline.config.deepspeed_schema import BLOCK_KEYS, deepspeed_config
from pipeline.errors import ConfigError
from pipeline.launch import resume
from tests.config.compositions import compose

SHIPPED = {key: shipped_trainer()["deepspeed"][key] for key in BLOCK_KEYS}


def settled(*arguments):
    return settle(compose(*arguments)).trainer.deepspeed


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes `ds.json` into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "ds.json").write_text(text, encoding="utf-8")

    return write


def test_as_shipped():
    assert deepspeed_config(settled()) == {
        "zero_optimization": SHIPPED,
        "zero_allow_untested_optimizer": True,
    }
    assert SHIPPED["stage"] == 2 and isinstance(SHIPPED["reduce_bucket_size"], int)


def test_the_block_reaches_deepspeed():
    block = settled(
        "trainer.deepspeed={stage: 1, overlap_comm: false}", "trainer.deepspeed.reduce_bucket_size=2e6"
    )
    expected = {**SHIPPED, "stage": 1, "overlap_comm": False, "reduce_bucket_size": 2_000_000}
    assert deepspeed_config(block)["zero_optimization"] == expected


FULL = {
    "zero_optimization": {
        "stage": 1,
        "reduce_bucket_size": 3e6,
        "allgather_bucket_size": "auto",
        "allgather_partitions": False,
        "round_robin_gradients": False,
        "offload_optimizer": {"device": "none"},
        "stage3_max_live_parameters": "auto",
    },
    "train_batch_size": "auto",
    "gradient_clipping": "auto",
    "fp16": {"enabled": False, "initial_scale_power": 16},
    "bf16": {"enabled": "auto"},
    "communication_data_type": "fp32",
    "wall_clock_breakdown": False,
    "steps_per_print": "auto",
    "zero_allow_untested_optimizer": True,
}


@pytest.mark.parametrize("key", ["trainer.deepspeed", "trainer.deepspeed.config"])
def test_a_file_becomes_the_block(write, key):
    write(FULL)
    block = settled(f"{key}=ds.json")
    assert (block.stage, block.reduce_bucket_size) == (1, 3_000_000)
    assert block.config == {
        "communication_data_type": "fp32",
        "wall_clock_breakdown": False,
        "zero_optimization": {"allgather_partitions": False},
    }
    assert deepspeed_config(block) == {
        "zero_optimization": {
            **SHIPPED,
            "stage": 1,
            "reduce_bucket_size": 3_000_000,
            "allgather_partitions": False,
        },
        "zero_allow_untested_optimizer": True,
        "communication_data_type": "fp32",
        "wall_clock_breakdown": False,
    }


def test_the_content_may_stand_in_the_block_itself():
    block = settled("trainer.deepspeed.config={zero_optimization: {stage: 1}, dump_state: true}")
    assert (block.stage, block.config) == (1, {"dump_state": True})


def test_a_run_needs_its_file_no_more(write, tmp_path):
    write(FULL)
    config = settle(compose("trainer.strategy=deepspeed", "trainer.deepspeed=ds.json"))
    dump(config, tmp_path / "config.yaml")
    (tmp_path / "ds.json").unlink()
    assert read(tmp_path / "config.yaml") == config


def test_a_resumed_run_may_take_another_strategy(write, tmp_path):
    run_dir = tmp_path / "run"
    dump(settle(compose(f"run.dir={run_dir}")), _made(run_dir) / "config.yaml")
    write(FULL)
    composition = compose("trainer.strategy=deepspeed", "trainer.deepspeed=ds.json")
    config, changes = resume.change(run_dir, settle(composition), composition.given)
    assert (config.trainer.strategy, config.trainer.deepspeed.stage) == ("deepspeed", 1)
    assert config.trainer.deepspeed.config["communication_data_type"] == "fp32"
    assert set(changes) == {
        "trainer.strategy",
        "trainer.deepspeed.stage",
        "trainer.deepspeed.reduce_bucket_size",
        "trainer.deepspeed.config",
    }


def _made(folder):
    folder.mkdir()
    return folder


# what the file holds -> what the message must say beside the file's name
REFUSED = {
    "no JSON": ("{'zero'", ["is no valid JSON", "line 1"]),
    "twice": ('{"dump_state": true, "dump_state": false}', ["dump_state is given twice"]),
    "a list": ("[]", ["holds no block of keys"]),
    "misspelt": (
        {"zero_optimisation": {}},
        ["zero_optimisation: unknown", "did you mean 'zero_optimization'"],
    ),
    "misspelt within": (
        {"zero_optimization": {"overlap_com": True}},
        ["zero_optimization.overlap_com: unknown", "did you mean 'overlap_comm'"],
    ),
    "no block": ({"zero_optimization": True}, ["zero_optimization=True", "a block of keys"]),
    "stage 3": (
        {"zero_optimization": {"stage": 3}},
        ["zero_optimization.stage=3", "all-gather", "valid: 1", "2"],
    ),
    "stage 0": ({"zero_optimization": {"stage": 0}}, ["zero_optimization.stage=0", "trainer.strategy=ddp"]),
    "type": (
        {"zero_optimization": {"overlap_comm": "yes"}},
        ["zero_optimization.overlap_comm='yes'", "boolean"],
    ),
    "odd": (
        {"zero_optimization": {"allgather_bucket_size": 3}},
        ["allgather_bucket_size=3", "an even number"],
    ),
    "stage 3 key": (
        {"zero_optimization": {"stage3_max_live_parameters": 1e9}},
        ["zero_optimization.stage3_max_live_parameters", "stage 3", "leave it out"],
    ),
    "offload": (
        {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
        ["zero_optimization.offload_optimizer", "not supported", "leave it out"],
    ),
    "order": (
        {"zero_optimization": {"round_robin_gradients": True}},
        ["zero_optimization.round_robin_gradients", "plain order"],
    ),
    "passed, wrong": (
        {"communication_data_type": "fp16"},
        ["communication_data_type='fp16'", "'fp32'"],
    ),
}
OWNERS = {
    "train_batch_size": (64, "trainer.global_batch_size"),
    "train_micro_batch_size_per_gpu": (8, "data.train_dataloader.batch_size"),
    "gradient_accumulation_steps": (2, "trainer.trainer.accumulate_grad_batches"),
    "gradient_clipping": (1.0, "trainer.trainer.gradient_clip_val"),
    "optimizer": ({"type": "AdamW", "params": {"lr": "auto"}}, "trainer.optimizer"),
    "scheduler": ({"type": "WarmupLR"}, "trainer.scheduler"),
    "fp16": ({"enabled": True}, "trainer.precision"),
    "bf16": ({"enabled": True}, "trainer.precision"),
    "amp": ({"enabled": True}, "trainer.precision"),
    "torch_autocast": ({"enabled": True, "dtype": "bfloat16"}, "trainer.precision"),
    "wandb": ({"enabled": True}, "trainer.logger"),
    "checkpoint": ({"tag_validation": "Warn"}, "trainer.trainer.save_top_k"),
}
REFUSED |= {key: ({key: value}, [key, owner]) for key, (value, owner) in OWNERS.items()}


@pytest.mark.parametrize(("content", "parts"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused(write, content, parts):
    write(content)
    with pytest.raises(ConfigError, match=r"^trainer\.deepspeed\.config=ds\.json: ") as refusal:
        settled("trainer.deepspeed=ds.json")
    assert not [part for part in parts if part not in str(refusal.value)], refusal.value


@pytest.mark.parametrize(
    ("name", "reason"), [("none.json", "no such file"), (".", "cannot be read"), ("binary.json", "no text")]
)
def test_no_file(write, tmp_path, name, reason):
    write("")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        ConfigError, match=rf"trainer\.deepspeed\.config={re.escape(name)}: .*{reason}.*valid: "
    ):
        settled(f"trainer.deepspeed.config={name}")


def test_block_and_file_must_agree(write):
    write({"zero_optimization": {"stage": 1}})
    expected = r"trainer\.deepspeed\.stage=2 contradicts .*ds\.json: zero_optimization\.stage=1; valid: "
    for line in (
        ["trainer.deepspeed=ds.json", "trainer.deepspeed.stage=2"],
        ["trainer.deepspeed.stage=2", "trainer.deepspeed=ds.json"],
    ):
        with pytest.raises(ConfigError, match=expected):
            settled(*line)
    assert settled("trainer.deepspeed=ds.json", "trainer.deepspeed.stage=1").stage == 1
