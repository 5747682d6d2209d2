"""The configuration tree as types: what a run may be told, and in which units.

Ranges and choices stand here or, for the arguments of registered classes, in their constructors. Defaults stand in
`conf/`, nowhere else.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from pipeline.config.container_schema import ContainerSettings
from pipeline.config.section import NameText, PathText, Section, translate
from pipeline.config.site_schema import SiteSettings
from pipeline.config.trainer_schema import OWNED_ELSEWHERE, TrainerSettings

RESUME_WORDS = ("never", "auto")
"""What `run.resume` may say instead of a run."""


def _never_for_null(value: Any) -> Any:
    return "never" if value is None else value


class StftSettings(Section):
    """The only STFT numbers of a run, in samples."""

    n_fft: PositiveInt
    hop_length: PositiveInt
    win_length: PositiveInt


class LoaderSettings(Section):
    """Arguments of torch's DataLoader; `batch_size` counts per process, `pin_memory` where a GPU trains."""

    batch_size: PositiveInt
    num_workers: NonNegativeInt
    prefetch_factor: PositiveInt | None
    persistent_workers: bool
    pin_memory: bool


class TrainDatasetSettings(Section):
    """What one training epoch draws; null takes as many segments as the audio holds."""

    segments_per_epoch: PositiveInt | None
    silence_db: float | None = Field(le=0.0, allow_inf_nan=False)
    augmentations: dict[str, dict[str, Any] | None]


class EvalDatasetSettings(Section):
    """Held-out audio: a folder of its own, or a share of `data.root`."""

    root: PathText | None
    max_segments: PositiveInt | None


class MixPartSettings(Section):
    """One set of a mix. Its name is the user's, so that conf/ can hold no default for what may be left out."""

    root: PathText
    weight: PositiveFloat = Field(allow_inf_nan=False)
    selection: dict[str, Any] | None = None


class DataSettings(Section):
    """Where the audio is and how it is cut."""

    source: Literal["default", "folder", "packed", "mix"]
    root: PathText | None
    selection: dict[str, Any]
    mix: dict[str, MixPartSettings]
    cache_dir: PathText
    scratch_dir: PathText | None
    extensions: list[str]
    eval_fraction: PositiveFloat = Field(lt=1.0)
    max_bad_fraction: NonNegativeFloat = Field(le=1.0)
    stft: StftSettings
    sample_rate_hz: int = Field(ge=1000, le=768_000)  # hertz: 44 or 44100000 is a slip
    channels: PositiveInt
    segment_frames: PositiveInt = Field(ge=2)
    train_dataset: TrainDatasetSettings
    eval_dataset: EvalDatasetSettings
    train_dataloader: LoaderSettings
    eval_dataloader: LoaderSettings

    @property
    def segment_samples(self) -> int:
        """Samples that give exactly `segment_frames` STFT frames."""
        return (self.segment_frames - 1) * self.stft.hop_length


class PreTransformSettings(Section):
    """Compression in front of the encoder; `apply_target` moves the spectral losses into the compressed domain."""

    type: str
    config: dict[str, Any] | None
    apply_target: bool


class AutoencoderSettings(Section):
    """What surrounds encoder, bottleneck and decoder."""

    pre_transform: PreTransformSettings
    chunk_frames: PositiveInt | None
    activation_checkpointing: bool
    latent_mask_ratio: float = Field(ge=0, lt=1)


class ModelSettings(Section):
    """The autoencoder; each block is `{type, config}` of a registered class."""

    autoencoder: AutoencoderSettings
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    bottleneck: dict[str, Any]


class RunSettings(Section):
    """Identity of the run: its directory, its name, and what it starts from.

    `resume` is the run to go on with, `auto` (the run that this very command has begun) or `never`.
    """

    dir: PathText | None
    name: NameText
    resume: Annotated[PathText, BeforeValidator(_never_for_null)]
    init_from: PathText | None


class Config(Section):
    """The whole tree."""

    data: DataSettings
    model: ModelSettings
    trainer: TrainerSettings
    site: SiteSettings
    container: ContainerSettings
    run: RunSettings


def parse(tree: Mapping[str, Any]) -> Config:
    """Check a composed tree against the schema.

    Raises:
        ConfigError: an unknown, missing or wrongly typed key; the message leads with its full path.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise translate(Config, error, OWNED_ELSEWHERE) from None
