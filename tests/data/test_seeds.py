import numpy as np
import pytest

from pipeline.data.seeds import SEED_RANGE, derive_seed


def test_seed_is_a_fixed_function_of_its_parts():
    assert derive_seed(1, "crop", 2, 3) == 2982456064931680870
    assert derive_seed(1, "crop", 2, 3) != derive_seed(1, "crop", 23)
    assert derive_seed("1") != derive_seed(1)


def test_seeds_fill_their_range_and_suit_every_generator():
    seeds = [derive_seed(0, number) for number in range(2000)]
    assert len(set(seeds)) == 2000
    assert 0 <= min(seeds) < 0.01 * SEED_RANGE
    assert 0.99 * SEED_RANGE < max(seeds) < SEED_RANGE
    assert abs(np.mean(seeds) / SEED_RANGE - 0.5) < 0.03


@pytest.mark.parametrize("part", [np.int64(3), 3.0, True, None])
def test_parts_whose_text_is_not_fixed_are_a_defect(part):
    with pytest.raises(AssertionError):
        derive_seed(part)
