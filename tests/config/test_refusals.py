"""Wrong command lines, as a user would type them: refused at once, in one sentence, before anything is touched."""

import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.config.compose import settle
from pipeline.errors import PipelineError
from pipeline.launch import preflight
from tests.config.command_line import train
from tests.config.compositions import compose

# arguments -> what the message must contain: the full path of the key, then the valid choices or the remedy
WITHOUT_TORCH = {
    # misspelt, at each level
    "trainr.seed=1": ("trainr: unknown key", "did you mean 'trainer'", "data, model, run"),
    "trainer.sede=1": ("trainer.sede: unknown key", "did you mean 'seed'", "num_gpus"),
    "trainer.trainer.max_epoch=3": ("trainer.trainer.max_epoch: unknown key", "'max_epochs'", "max_steps"),
    "trainer.scheduler.config.powr=0.5": (
        "trainer.scheduler.config.powr",
        "did you mean 'power'",
        "inv_gamma",
    ),
    "trainer.loss_config.spectral.stft_mse.config.reductio=sum": (
        "trainer.loss_config.spectral.stft_mse.config.reductio: unknown key",
        "Valid: reduction",
    ),
    "data.stft.nfft=1024": ("data.stft.nfft: unknown key", "n_fft", "hop_length", "win_length"),
    "model.encoder.config.n_filter=8": (
        "model.encoder.config.n_filter: unknown key",
        "'n_filters'",
        "kernel_size",
    ),
    "seed=1": ("seed: unknown key", "did you mean trainer.seed", "trainer"),
    "modle=SEANet_real": ("modle: unknown key", "did you mean 'model'", "trainer"),
    "model=SEANet_rea": ("model/SEANet_rea", "SEANet_real", "SEANet_complex"),
    "data=null": ("data=null", "default", "folder", "jamendo_highres"),
    # type
    "trainer.seed=one": ("trainer.seed='one'", "valid integer"),
    "data.train_dataloader=null": ("data.train_dataloader=None", "batch_size", "num_workers"),
    # range
    "data.train_dataloader.batch_size=0": ("data.train_dataloader.batch_size=0", "greater than 0"),
    "trainer.watchdog_timeout_s=5": ("trainer.watchdog_timeout_s=5", "valid: 20 or more", "null"),
    "trainer.trainer.gradient_clip_val=-1": ("trainer.trainer.gradient_clip_val=-1", "or equal to 0"),
    # names
    "trainer.loss_config.spectral.stft_msee={}": (
        "trainer.loss_config.spectral.stft_msee: unknown loss",
        "did you mean 'stft_mse'",
        "mrstft",
    ),
    "trainer.eval_loss_config.pesq={}": ("trainer.eval_loss_config.pesq: unknown metric", "mel, sisdr, stft"),
    "trainer.trainer.monitor=val/loss": (
        "trainer.trainer.monitor='val/loss'",
        "val/mel, val/sisdr, val/stft",
    ),
    "model.encoder.config.activation=Softmax": (
        "model.encoder.config.activation='Softmax'",
        "CReLU",
        "ELU",
        "GELU",
    ),
    "model.autoencoder.pre_transform.type=log": (
        "model.autoencoder.pre_transform.type='log'",
        "log_mag, none, power_norm",
    ),
    "model.bottleneck.type=VQ": ("model.bottleneck.type='VQ'", "IdentityBottleneck, VAEBottleneck"),
    "trainer.logger=csvv": ("trainer.logger='csvv'", "csv, tensorboard, wandb, none"),
    "trainer.precision=bf16": ("trainer.precision='bf16'", "'bf16-mixed'", "'32-true'"),
    "trainer.strategy=deepspeed trainer.deepspeed.stage=3": (
        "trainer.deepspeed.stage=3",
        "all-gather",
        "valid: 1",
    ),
    "trainer.strategy=deepspeed trainer.precision=64-true": (
        "trainer.precision=64-true",
        "32-true, bf16-mixed",
    ),
    # losses
    "trainer.loss_config.spectral.weights.stft_mse=-1": (
        "trainer.loss_config.spectral.weights.stft_mse=-1",
        "at least 0 (0 disables the loss)",
    ),
    "trainer.loss_config.time.l1={}": ("trainer.loss_config.time.weights.l1: missing", "(0 disables it)"),
    "trainer.loss_config.spectral.weights.stft_mse=0 trainer.loss_config.bottleneck.weights.kl=0": (
        "trainer.loss_config: no loss is active",
        "positive weight",
    ),
    # numbers that must fit each other
    "data.stft.n_fft=1024": ("data.stft.win_length=2048", "n_fft=1024"),
    "trainer.eval_loss_config.stft.fft_size=1024": (
        "trainer.eval_loss_config.stft.fft_size=1024",
        "data.stft.n_fft=2048",
        "${data.stft.n_fft}",
    ),
    "model.encoder.config.latent_fbins=33": ("model.encoder.config.latent_fbins=33", "1025", "lead to 32"),
    "model.decoder.config.dimension=128": (
        "model.decoder.config.dimension=128",
        "encoder.config.dimension=128",
        "VAEBottleneck as 64",
    ),
    "model.decoder.config.complex_valued=false": (
        "model.decoder.config.complex_valued=false",
        "encoder.config.complex_valued=true",
    ),
    "trainer.trainer.deterministic=false trainer.deterministic=true": (
        "trainer.deterministic=True",
        "trainer.trainer.deterministic=False",
        "valid: give one of them",
    ),
    "trainer.num_gpus=0 trainer.num_processes=2 trainer.global_batch_size=15": (
        "trainer.global_batch_size=15",
        "a multiple of 2",
    ),
    "trainer.num_gpus=0 trainer.precision=16-mixed": ("trainer.precision=16-mixed", "32-true, bf16-mixed"),
    # owned elsewhere
    "trainer.trainer.strategy=ddp": ("trainer.trainer.strategy:", "set it with trainer.strategy"),
    "trainer.trainer.devices=2": ("trainer.trainer.devices:", "trainer.num_gpus", "trainer.num_processes"),
    # places
    "data=folder": ("data.root: not given", "data.root=DIR", "EULER_DATA"),
    "data=folder data.root=/no/such/folder": (
        "data.root=/no/such/folder",
        "no such folder",
        "a folder of audio files",
    ),
    "run.resume=/no/such/run": ("run.resume=/no/such/run", "config.yaml", "the directory of a run"),
    "run.init_from=/no/such.ckpt": ("run.init_from=/no/such.ckpt", "no such checkpoint", "best.ckpt"),
    "run.dir=/dev/null": ("run.dir=/dev/null", "is a file", "valid: a folder"),
    # launching
    "hydra/launcher=submitit_slurm trainer.seed=1,2": (
        "hydra/launcher=submitit_slurm",
        "train.py -m hydra/launcher=submitit_slurm trainer.seed=1,2",
    ),
    "trainer.seed=1,2": ("trainer.seed=1,2", "--multirun"),
}

# Names and arguments that torch alone knows, and the GPUs that it counts.
WITH_TORCH = {
    "trainer.optimizer.type=AdamWW": ("trainer.optimizer.type='AdamWW'", "did you mean 'AdamW'", "SGD"),
    "trainer.optimizer.config.lrr=0.1": ("trainer.optimizer.config.lrr", "did you mean 'lr'", "weight_decay"),
    "trainer.optimizer.type=SGD 'trainer.optimizer.config={betas:[0.9,0.99]}'": (
        "trainer.optimizer.config.betas: SGD has no such argument",
        "momentum",
    ),
    "trainer.scheduler.type=StepLR": ("trainer.scheduler.config.step_size", "requires it", "gamma"),
    "trainer.num_gpus=64": ("trainer.num_gpus=64", "valid: auto, or 0 to"),
}

# More of the same, checked by the same functions without a process of their own.
IN_THIS_PROCESS = {
    "trainer.seed=1.5": ("trainer.seed=1.5", "valid integer"),
    "trainer.trainer.max_epochs=ten": ("trainer.trainer.max_epochs='ten'", "valid integer"),
    "data.extensions=wav": ("data.extensions='wav'", "valid list"),
    "trainer.deterministic=maybe": ("trainer.deterministic='maybe'", "valid boolean"),
    "model.encoder.config.ratios=[4,2]": ("model.encoder.config.ratios=[4, 2]", "valid list"),
    "trainer.trainer.max_time=1h": ("trainer.trainer.max_time='1h'", "DD:HH:MM:SS"),
    "data.segment_frames=1": ("data.segment_frames=1", "greater than or equal to 2"),
    "trainer.trainer.log_every_n_steps=-3": ("trainer.trainer.log_every_n_steps=-3", "greater than 0"),
    "trainer.trainer.limit_train_batches=0": (
        "trainer.trainer.limit_train_batches=0",
        "greater than 0, or null",
    ),
    "trainer.trainer.val_check_interval=7.5": ("trainer.trainer.val_check_interval=7.5", "0.0 to 1.0"),
    "trainer.scheduler.config.warmup=1.0": ("trainer.scheduler.config.warmup=1.0", "less than 1"),
    "trainer.trainer.min_epochs=20": (
        "trainer.trainer.min_epochs=20",
        "trainer.trainer.max_epochs",
        "at most",
    ),
    "trainer.loss_config.spectrall.weights.l1=1": (
        "trainer.loss_config.spectrall",
        "'spectral'",
        "mel",
        "time",
    ),
    "model.encoder.config.norm=instance_norm": (
        "model.encoder.config.norm='instance_norm'",
        "weight_norm",
        "group_norm",
    ),
    "model.encoder.config.residual_groups=2": ("model.encoder.config.residual_groups=2", "n_residual_layers"),
    "model.encoder.config.residual_groups=4 model.encoder.config.n_residual_layers=1": (
        "model.encoder.config.residual_groups=4",
        "n_filters",
        "compress=2",
    ),
    "model.encoder.config.sequence_model=transformer model.encoder.config.sequence_heads=3": (
        "model.encoder.config.sequence_heads=3",
        "dimension=128",
    ),
    "model.encoder.config.sequence_model=gru": ("sequence_model='gru'", "lstm", "transformer"),
    "model.encoder.config.activation=GLU": ("activation='GLU'", "complex_valued=false", "CGLU"),
    "trainer.logger=[csv,tb]": ("trainer.logger=['csv', 'tb']", "csv, tensorboard, wandb, none"),
    "trainer.strategy=fsdp": ("trainer.strategy='fsdp'", "not built", "valid: auto, ddp, deepspeed"),
    "trainer.scheduler.interval=batch": ("trainer.scheduler.interval='batch'", "'step' or 'epoch'"),
    "data.extensions=[wav,m4a]": ("data.extensions: 'm4a'", "flac", "pipeline.data.convert"),
    "data.source=mix": ("data.mix: no set is given", "data.mix.NAME.root=DIR"),
    "data.selection.type=Tracklist": ("data.selection.type='Tracklist'", "did you mean 'TrackList'"),
    "data.train_dataset.augmentations.gian.low_db=1": ("augmentations.gian: unknown", "did you mean 'gain'"),
    "data.train_dataset.augmentations.gain.low=1": ("augmentations.gain.low: unknown key", "low_db"),
    "data.train_dataset.silence_db=3": ("data.train_dataset.silence_db=3", "less than or equal to 0"),
    "trainer.loss_config.time.weights.l1=1": (
        "trainer.loss_config.time.weights.l1",
        "add trainer.loss_config.time.l1",
    ),
    "trainer.loss_config=null": ("trainer.loss_config=None", "a block of keys"),
    "data.stft.hop_length=2048": ("data.stft.hop_length=2048", "between 1 and 1024"),
    "trainer.eval_loss_config.mel.sample_rate=48000": (
        "trainer.eval_loss_config.mel.sample_rate=48000",
        "data.sample_rate_hz=44100",
    ),
    "model.encoder.config.dimension=127": ("model.encoder.config.dimension=127", "divisible by 2"),
    "trainer.deterministic=false trainer.trainer.strict_deterministic=true": (
        "trainer.trainer.strict_deterministic=true",
        "trainer.deterministic=false",
        "valid:",
    ),
    "trainer.trainer.callbacks=[]": ("trainer.trainer.callbacks:", "keys of trainer.trainer"),
    "trainer.scheduler.monitor=val/sisdr": ("trainer.scheduler.monitor='val/sisdr'", "ReduceLROnPlateau"),
    "data.root=/tmp": ("data.root=/tmp", "data=folder"),
    "data=folder data.root=''": ("data.root=''", "at least 1 character"),
    "trainer.trainer.ckpt_dir=/dev/null/x": ("trainer.trainer.ckpt_dir=/dev/null/x", "valid: a folder"),
    "run.name=../../elsewhere": ("run.name='../../elsewhere'", "a name"),
    "trainer.optimizer.type=Muon": ("trainer.optimizer.type='Muon'", "2-D weights only", "Valid: ASGD"),
    "trainer.optimizer.config.lr=-1": ("trainer.optimizer.config.lr=-1", "Invalid learning rate"),
    "trainer.scheduler.type=StepLRR": (
        "trainer.scheduler.type='StepLRR'",
        "did you mean 'StepLR'",
        "InverseLR",
    ),
}

COMMANDS = {**WITHOUT_TORCH, **WITH_TORCH}
MOST_SECONDS = 10.0


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Every command line as a running or finished process, two at a time."""
    root = tmp_path_factory.mktemp("refusals")
    pool = ThreadPoolExecutor(2)
    futures = {
        line: pool.submit(train, *shlex.split(line), home=root / str(number))
        for number, line in enumerate(COMMANDS)
    }
    yield {line: future.result for line, future in futures.items()}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_refused(line, ended):
    result = ended[line]()
    assert result.code == 1, result.output
    missing = [part for part in COMMANDS[line] if part not in result.output]
    assert not missing, result.output
    assert "Traceback" not in result.output and "\n  File " not in result.output
    assert result.written == ()
    assert result.seconds < MOST_SECONDS
    if line in WITHOUT_TORCH:
        assert result.heavy == ()


@pytest.mark.parametrize("line", IN_THIS_PROCESS)
def test_a_configuration_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EULER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError) as refusal:
        composition = compose(*shlex.split(line))
        preflight.check(settle(composition), composition.given)
    missing = [part for part in IN_THIS_PROCESS[line] if part not in str(refusal.value)]
    assert not missing, refusal.value
    assert list(tmp_path.iterdir()) == []


def test_the_cases_are_typed_without_a_plus():
    lines = [*COMMANDS, *IN_THIS_PROCESS]
    assert len(COMMANDS) >= 36 and len(set(lines)) == len(lines)
    assert not any(word.startswith(("+", "~")) for line in lines for word in shlex.split(line))
