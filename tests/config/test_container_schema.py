"""The `container` section: what no image can be entered with is refused before anything starts."""

import re

import pytest

from pipeline.config.container_schema import ContainerSettings
from pipeline.config.schema import parse
from pipeline.errors import ConfigError
from tests.config.compositions import compose

RIGHT = {"image": "/shared/euler.sif", "binds": [], "executable": "apptainer", "args": []}
WRONG = {
    "image": ["docker://python", "library://a/b:1", " ", "\t"],
    "binds": [
        "",
        " ",
        ":/b",
        "/a:",
        "/a: ",
        "/a::ro",
        "/a:/b:",
        "/a:/b:zz",
        "/a:/b:rw:zz",
        "/a:/b\n",
        "/a\n:/b",
    ],
    "args": ["", " ", "--", "--folder=/x", "--data=/x", "--env=A=b\nc", "other.sif"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in WRONG for value in WRONG[key]])
def test_refused(key, value):
    tree = compose().tree | {"container": RIGHT | {key: value if key == "image" else [value]}}
    with pytest.raises(ConfigError, match=rf"^container\.{key}=") as refused:
        parse(tree)
    remedy = {"image": "make sif", "binds": "SOURCE:TARGET:ro|rw", "args": ""}[key]
    assert remedy in str(refused.value)


def test_a_word_of_another_place_is_refused_anywhere():
    for word in ("--", "--data=/x", ""):
        with pytest.raises(ValueError, match=re.escape(repr(word))):
            ContainerSettings(**RIGHT | {"args": ["--nv", word]})
    with pytest.raises(ValueError, match="begin with -; the image is container.image"):
        ContainerSettings(**RIGHT | {"args": ["other.sif"]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", None),
        ("image", "~/my images/euler:1.sif"),
        ("binds", ["/a", "~/b c:/b", "/a:/b:ro", "/a:/b:rw"]),
        ("args", ["--rocm", "--env", "A=b c", "--overlay=/x:ro"]),
    ],
)
def test_taken_as_it_is(key, value):
    assert getattr(ContainerSettings(**RIGHT | {key: value}), key) == value
