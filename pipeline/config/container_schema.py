"""Schema of the `container` section: the image that jobs of a cluster run in, if they run in one."""

from pipeline.config.section import Lines, PathText, Section


class ContainerSettings(Section):
    """An Apptainer image and how it is entered; without an image the rest has no effect."""

    image: PathText | None
    binds: Lines
    executable: PathText
    args: Lines
