"""Schema of the `site` group: what is particular to a cluster, whatever is trained there."""

from typing import Any

from pipeline.config.section import Lines, PathText, Section, Word


class SiteSettings(Section):
    """A SLURM cluster; null leaves a matter to the cluster."""

    partition: Word | None
    account: Word | None
    qos: Word | None
    constraint: Word | None
    modules: list[Word]
    setup: Lines
    scratch: PathText | None
    network_interface: Word | None
    requeue: bool
    gpu_gres: Word | None
    additional_parameters: dict[str, Any]
