"""Schema of the `container` section: the image that jobs of a cluster run in, if they run in one."""

from pydantic import field_validator

from pipeline.config.section import Lines, PathText, Section

_OF_IN_IMAGE = ("--folder=", "--data=")
"""What slurm/in_image.sh takes for itself."""

_MODES: tuple[list[str], ...] = ([], ["ro"], ["rw"])
"""What may follow SOURCE:TARGET."""


class ContainerSettings(Section):
    """An Apptainer image and how it is entered; without an image the rest has no effect."""

    image: PathText | None
    binds: Lines
    executable: PathText
    args: Lines

    @field_validator("image")
    @classmethod
    def _require_file(cls, value: str | None) -> str | None:
        if value is not None and ("://" in value or not value.strip()):
            raise ValueError("a SIF file is expected, which all nodes see: `make sif` builds one")
        return value

    @field_validator("binds")
    @classmethod
    def _require_binds(cls, value: list[str]) -> list[str]:
        for bind in value:
            source, *rest = bind.split(":")
            is_whole = all(part.strip() for part in (source, *rest)) and bind.isprintable()
            if not is_whole or rest[1:] not in _MODES:
                raise ValueError(
                    f"{bind!r} is no bind; each is SOURCE, SOURCE:TARGET or SOURCE:TARGET:ro|rw, none of them empty"
                )
        return value

    @field_validator("args")
    @classmethod
    def _require_options(cls, value: list[str]) -> list[str]:
        for word in value:
            if not word.strip() or not word.isprintable():
                raise ValueError(f"{word!r}: each is a word of one line")
            if word == "--" or word.startswith(_OF_IN_IMAGE):
                raise ValueError(
                    f"{word!r} is for slurm/in_image.sh; folders of your own are named by container.binds"
                )
        if value and not value[0].startswith("-"):
            raise ValueError("options of `apptainer exec` begin with -; the image is container.image")
        return value
