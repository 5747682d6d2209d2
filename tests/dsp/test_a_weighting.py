"""The A-weighting curve against the table of the standard."""

import pytest
import torch

from pipeline.dsp.a_weighting import a_weighting, bin_weights

# Nominal frequency in hertz -> A-weighting in decibels, IEC 61672-1 table 3 (exact frequencies are 1000 * 10^(n/10)).
TABLE = {10: -70.4, 31.5: -39.4, 63: -26.2, 125: -16.1, 250: -8.6, 500: -3.2, 1000: 0.0, 2000: 1.2, 4000: 1.0}
TABLE |= {8000: -1.1, 16000: -6.6, 20000: -9.3}


def test_table_of_the_standard():
    exact = torch.tensor(
        [1000 * 10 ** (round(10 * torch.log10(torch.tensor(f / 1000)).item()) / 10) for f in TABLE]
    )
    found = 20 * a_weighting(exact.double()).log10()
    assert found.tolist() == pytest.approx(list(TABLE.values()), abs=0.06)


def test_bins():
    weights = bin_weights(8000, 5)
    assert weights.shape == (5, 1) and weights.dtype == torch.float32
    assert weights[0].item() == 0.0 and weights[1].item() == pytest.approx(1.0, abs=1e-6)
    assert weights[2:, 0].tolist() == pytest.approx(
        a_weighting(torch.tensor([2e3, 3e3, 4e3])).tolist(), rel=1e-5
    )
