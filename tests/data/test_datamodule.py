import hashlib
import os
import shutil
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from pipeline.data.contents import Contents
from pipeline.data.datamodule import AudioDataModule
from pipeline.errors import DataError


class Recorder(pl.LightningModule):
    """Learns nothing and notes what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.global_step, fingerprint(batch)))
        return self.weight * 0.0

    def validation_step(self, batch, batch_idx):
        torch.rand(1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fingerprint(batch):
    return hashlib.sha256(batch.waveform.numpy().tobytes() + batch.position.numpy().tobytes()).hexdigest()


@pytest.fixture
def make_module(make_settings):
    def make_module(root, cache_dir, lines=None, limit_train_batches=None, **changes):
        report = (lambda line: None) if lines is None else lines.append
        settings = make_settings(root=str(root), **changes)
        return AudioDataModule(settings, 5, cache_dir, report, limit_train_batches)

    return make_module


def loader_settings(**changes):
    plain = {"batch_size": 4, "num_workers": 0, "prefetch_factor": None, "persistent_workers": False}
    return SimpleNamespace(**plain | {"pin_memory": False} | changes)


def make_trainer(tmp_path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "use_distributed_sampler": False,
            "default_root_dir": tmp_path,
            **quiet,
            **options,
        }
    )


def test_each_bad_file_is_named_and_counted_once(make_module, mixed, good_names, tmp_path):
    lines = []
    module = make_module(mixed.root, tmp_path, lines)
    module.prepare_data()
    module.setup()
    module.setup()
    assert len(module.bad_files) == len(mixed.reasons)
    for name, reason in mixed.reasons.items():
        (named,) = [line for line in lines if str(mixed.root / name) in line]
        assert reason in named
    assert module.corpus.num_files == len(good_names) + len(mixed.reasons)
    assert len(module.train_manifest.entries) + len(module.eval_manifest.entries) == len(good_names)
    assert module.hours > 0


def test_too_many_bad_files_are_refused(make_module, mixed, tmp_path):
    with pytest.raises(DataError, match=r"audio files are bad, more than data\.max_bad_fraction=0\.1"):
        make_module(mixed.root, tmp_path, max_bad_fraction=0.1).setup()


def test_file_that_turns_bad_is_named_when_it_is_met(make_module, good_root, tmp_path):
    root = tmp_path / "audio"
    root.mkdir()
    for name in ("flac16.flac", "float.wav", "cbr.mp3", "vorbis.ogg"):
        (root / name).write_bytes((good_root / name).read_bytes())
    lines = []
    module = make_module(root, tmp_path / "cache", lines, train_dataloader=loader_settings(num_workers=2))
    module.setup()
    victim = root / module.train_manifest.entries[0].path
    os.truncate(victim, 3000)
    for _ in range(2):
        for batch in module.train_dataloader():
            module.record_bad(batch)
    assert [line for line in lines if "bad file" in line] == [line for line in lines if str(victim) in line]
    assert [bad.path for bad in module.bad_files] == [str(victim)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damage_that_only_decoding_finds_is_named_once_and_always_replaced_alike(
    make_module, good_root, tmp_path, num_workers
):
    """The first scan decodes no FLAC file in its usual form, so that it does not depend on what lies inside."""
    root = tmp_path / "audio"
    root.mkdir()
    for name in ("flac16.flac", "float.wav", "cbr.mp3", "vorbis.ogg"):
        (root / name).write_bytes((good_root / name).read_bytes())
    victim = root / "flac16.flac"
    content = bytearray(victim.read_bytes())
    content[9000:-20000] = bytes(len(content) - 29000)
    victim.write_bytes(content)

    def trained(cache_dir, lines, *, is_read, **changes):
        module = make_module(root, cache_dir, lines, **changes)
        module.setup()
        assert victim.name in {
            entry.path for part in (module.train_manifest, module.eval_manifest) for entry in part.entries
        }
        if is_read:
            Contents((module.train_manifest, module.eval_manifest), cache_dir).read()
            module = make_module(root, cache_dir, lines, **changes)
            module.setup()
        batches = [*module.train_dataloader(), *module.val_dataloader()]
        for batch in batches:
            module.record_bad(batch)
        assert [bad.path for bad in module.bad_files] == [str(victim)]
        return [fingerprint(batch) for batch in batches]

    lines = []
    wanted = trained(tmp_path / "one", lines, is_read=False)
    assert len([line for line in lines if "bad file" in line]) == 1
    options = loader_settings(num_workers=num_workers)
    changes = {"train_dataloader": options, "eval_dataloader": options}
    assert trained(tmp_path / "two", [], is_read=True, **changes) == wanted


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_workers(make_module, good_root, tmp_path, num_workers):
    def batches(**changes):
        module = make_module(good_root, tmp_path, **changes)
        module.setup()
        train, evaluation = module.train_dataloader(), module.val_dataloader()
        return [fingerprint(batch) for loader in (train, train, evaluation) for batch in loader]

    options = loader_settings(num_workers=num_workers, prefetch_factor=3, persistent_workers=True)
    assert batches() == batches(train_dataloader=options, eval_dataloader=options)


def test_loaders_leave_the_global_generators_alone(make_module, good_root, tmp_path):
    module = make_module(good_root, tmp_path)
    module.setup()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    next(iter(module.train_dataloader()))
    next(iter(module.val_dataloader()))
    assert torch.rand(1) == expected


def test_demo_segments_have_their_own_length(make_module, good_root, tmp_path):
    module = make_module(good_root, tmp_path)
    module.setup()
    demos = module.demo_segments(2, seconds=1.5)
    assert [demo.shape for demo in demos] == [(2, 24000)] * len(demos)
    assert 1 <= len(demos) <= 2


def test_batches_per_epoch(make_module, good_root, tmp_path):
    module = make_module(good_root, tmp_path)
    module.setup()
    assert module.batches_per_epoch(4) == len(module.train_dataloader())
    assert module.batches_per_epoch(100000) == 1
    fixed = make_module(
        good_root,
        tmp_path,
        train_dataset=SimpleNamespace(segments_per_epoch=1000, silence_db=None, augmentations={}),
    )
    fixed.setup()
    assert fixed.batches_per_epoch(4) == len(fixed.train_dataloader()) == 250


def test_fast_dev_run_and_overfitting(make_module, good_root, tmp_path):
    recorder = Recorder()
    make_trainer(tmp_path, fast_dev_run=True).fit(
        recorder, datamodule=make_module(good_root, tmp_path / "cache")
    )
    assert len(recorder.seen) == 1
    module = make_module(good_root, tmp_path / "cache")
    trainer = make_trainer(
        tmp_path, overfit_batches=2, max_epochs=3, limit_val_batches=0, enable_checkpointing=False
    )
    trainer.fit(Recorder(), datamodule=module)
    keys = [[key[:2] for batch in module.train_dataloader().batch_sampler for key in batch] for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 2 * 4


def test_changed_audio_is_noticed_at_a_resume(make_module, good_root, tmp_path):
    lines = []
    module = make_module(good_root, tmp_path, lines)
    module.setup()
    module.load_state_dict(module.state_dict())
    assert not any("changed" in line for line in lines)
    module.load_state_dict({"train_digest": "another"})
    assert any("training files have changed" in line for line in lines)


def test_changed_held_out_audio_is_noticed_at_a_resume(make_module, good_root, tmp_path):
    lines = []
    module = make_module(good_root, tmp_path, lines)
    module.setup()
    module.load_state_dict(module.state_dict() | {"eval_digest": "another"})
    (line,) = [line for line in lines if "changed" in line]
    assert "held-out files have changed" in line


def test_other_audio_in_another_place_is_refused_at_a_resume(make_module, good_root, tmp_path):
    module = make_module(good_root, tmp_path / "cache")
    module.setup()
    copy = shutil.copytree(good_root, tmp_path / "copy")
    moved = make_module(copy, tmp_path / "cache")
    moved.setup()
    moved.load_state_dict(module.state_dict())
    next(path for path in copy.rglob("*") if path.suffix == ".wav").unlink()
    other = make_module(copy, tmp_path / "cache")
    other.setup()
    with pytest.raises(
        DataError, match=f"data.root={copy}: .* not those of this run, .*data.root={good_root}"
    ):
        other.load_state_dict(module.state_dict())
    with pytest.raises(DataError, match="held-out files there"):
        moved.load_state_dict(module.state_dict() | {"eval_digest": "another"})
