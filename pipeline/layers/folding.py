"""Feature maps whose positions lie folded in channels, and convolutions of them: the same function by other kernels.

Libraries starve on convolutions of few channels at many positions. A map (B, C, F, T) cut into blocks of f bins and t
frames becomes (B, C f t, F/f, T/t), C being the slowest of the three; a convolution of positions becomes one of blocks,
whose weight holds the taps of the small one at the places that follow from `AxisTaps`, and zeros elsewhere. More is
multiplied, by kernels that are many times faster.

A last block may reach beyond the map. What lies there is whatever the layers make of it, always finite; a convolution
sees its padding there instead, and `unfold` cuts it off, so that no gradient comes from it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.dsp.padding import reflect_pad, zero_pad

Size = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """An axis of so many positions in blocks of so many."""

    length: int
    fold: int = 1

    @property
    def num_blocks(self) -> int:
        """Blocks, the last of which may reach beyond the axis."""
        return -(-self.length // self.fold)


@dataclass(frozen=True)
class Grid:
    """How a map of bins and frames is folded."""

    bins: Axis
    frames: Axis

    @classmethod
    def of(cls, features: Tensor) -> "Grid":
        """The grid of a map (B, C, F, T) that is not folded."""
        return cls(Axis(features.shape[2]), Axis(features.shape[3]))

    @property
    def fold(self) -> Size:
        """Positions of a block: bins, frames."""
        return self.bins.fold, self.frames.fold

    @property
    def block_size(self) -> int:
        """Positions of a block."""
        return self.bins.fold * self.frames.fold

    def in_blocks(self, size: Size) -> "Grid":
        """The same map in other blocks."""
        return Grid(Axis(self.bins.length, size[0]), Axis(self.frames.length, size[1]))


def fold(features: Tensor, size: Size) -> Tensor:
    """(B, C, F, T) to (B, C f t, F/f, T/t), the last blocks filled up with zeros."""
    if size == (1, 1):
        return features
    for dim, amount in zip((2, 3), size, strict=True):
        features = zero_pad(features, (0, -features.shape[dim] % amount), dim)
    blocks = features.unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0]))  # (B, C, F/f, f, T/t, t)
    return _channels_last(blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3))


def unfold(features: Tensor, grid: Grid) -> Tensor:
    """The inverse of `fold`: (B, C f t, F/f, T/t) to (B, C, F, T)."""
    if grid.block_size == 1:
        return features
    blocks = features.unflatten(1, (-1, *grid.fold))  # (B, C, f, t, F/f, T/t)
    whole = blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    return _channels_last(whole.narrow(2, 0, grid.bins.length).narrow(3, 0, grid.frames.length))


@dataclass(frozen=True)
class AxisTaps:
    """A convolution along one axis, from blocks to blocks.

    The j-th position of an output block sees the taps of its strip at the input positions `starts[j]`,
    `starts[j] + dilation`, ..., counted from the first position of the block `step` times the number of its own.

    Attributes:
        source: the input's axis.
        result: the output's axis.
        step: input blocks from one output block to the next.
        starts: of each position of an output block, never falling.
        strips: for each of them the taps, in the order of input positions.
        dilation: distance between taps.
        mirrored: positions that the input is mirrored by at its start and its end; None where zeros lie there.
    """

    source: Axis
    result: Axis
    step: int
    starts: tuple[int, ...]
    strips: tuple[tuple[int, ...], ...]
    dilation: int = 1
    mirrored: Size | None = None

    @classmethod
    def strided(
        cls,
        source: Axis,
        fold_out: int,
        *,
        kernel: int,
        stride: int,
        dilation: int,
        before: int,
        mirrored: Size | None,
    ) -> "AxisTaps":
        """A convolution that turns n positions into floor(n / stride), `before` positions of padding ahead."""
        step, rest = divmod(stride * fold_out, source.fold)
        assert rest == 0, f"blocks of {source.fold} to blocks of {fold_out} at stride {stride}"
        starts = tuple(stride * place - before for place in range(fold_out))
        strips = (tuple(range(kernel)),) * fold_out
        return cls(source, Axis(source.length // stride, fold_out), step, starts, strips, dilation, mirrored)

    @classmethod
    def transposed(cls, source: Axis, *, stride: int, cut: int, length: int) -> "AxisTaps":
        """An upsampling by the stride with twice as many taps, `cut` positions of its result dropped at the start.

        An output position sees two input positions, so that this is a convolution to blocks of the stride.
        """
        assert source.fold == 1
        places = [divmod(place + cut, stride) for place in range(stride)]
        starts = tuple(late - 1 for late, _ in places)
        return cls(source, Axis(length, stride), 1, starts, tuple((tap + stride, tap) for _, tap in places))

    @property
    def first_block(self) -> int:
        """The first input block that an output block sees, relative to its own."""
        return self.starts[0] // self.source.fold

    @property
    def num_blocks(self) -> int:
        """Input blocks that an output block sees."""
        return self._last(-1) // self.source.fold - self.first_block + 1

    @property
    def reach(self) -> Size:
        """Positions before the input's first and behind its last that the output's own positions see."""
        block, place = divmod(self.result.length - 1, self.result.fold)
        last = self.step * self.source.fold * block + self._last(place)
        return max(0, -self.starts[0]), max(0, last - self.source.length + 1)

    @property
    def span(self) -> int:
        """Input blocks that all output blocks see together."""
        return self.step * (self.result.num_blocks - 1) + self.num_blocks

    def _last(self, place: int) -> int:
        return self.starts[place] + (len(self.strips[place]) - 1) * self.dilation

    def spread(self, weight: Tensor, dim: int) -> Tensor:
        """Spreads taps over the positions of the blocks that an output block sees.

        Args:
            weight: (..., taps, ...).
            dim: The axis of the taps, counted from the end: negative.

        Returns:
            (places of an output block, ..., blocks * positions, ...).
        """
        length, origin = self.num_blocks * self.source.fold, self.first_block * self.source.fold
        rows = []
        for start, strip in zip(self.starts, self.strips, strict=True):
            taps = weight
            if strip != tuple(range(weight.shape[dim])):
                taps = torch.stack([weight.select(dim, tap) for tap in strip], dim)
            if self.dilation > 1:
                axis = taps.dim() + dim
                taps = zero_pad(taps.unsqueeze(axis + 1), (0, self.dilation - 1), axis + 1).flatten(
                    axis, axis + 1
                )
                taps = taps.narrow(axis, 0, taps.shape[axis] - self.dilation + 1)
            rows.append(zero_pad(taps, (start - origin, length - (start - origin) - taps.shape[dim]), dim))
        return torch.stack(rows)


def spread_weight(weight: Tensor, bins: AxisTaps, frames: AxisTaps) -> Tensor:
    """The weight between blocks of a weight (O, I, taps, taps) between positions.

    Returns:
        (O * positions of an output block, I * positions of an input block, blocks, blocks).
    """
    spread = frames.spread(bins.spread(weight, -2), -1)  # (t', f', O, I, blocks * f, blocks * t)
    apart = spread.unflatten(5, (-1, frames.source.fold)).unflatten(4, (-1, bins.source.fold))
    return apart.permute(2, 1, 0, 3, 5, 7, 4, 6).flatten(3, 5).flatten(0, 2)


def pad_blocks(features: Tensor, taps: AxisTaps, size: Size, dim: int) -> Tensor:
    """Gives every output block the input blocks that it sees, with what lies beyond the axis.

    Args:
        features: (B, C f t, F/f, T/t).
        taps: Of the axis.
        size: f and t.
        dim: The axis: 2 for bins, 3 for frames.
    """
    axis, (before, after) = taps.source, taps.reach
    ahead, end = -taps.first_block, taps.first_block + taps.span
    if taps.mirrored is None and (after == 0 or axis.length % axis.fold == 0):
        return zero_pad(features, (ahead, end - axis.num_blocks), dim)
    if taps.mirrored is not None and axis.length <= max(
        taps.mirrored
    ):  # all at once, as `reflect_pad` does it
        row = reflect_pad(_rows(features, size, dim).narrow(dim + 1, 0, axis.length), taps.mirrored, dim + 1)
        known = taps.mirrored[0] + axis.length + taps.mirrored[1]
        first = ahead * axis.fold - taps.mirrored[0]
        return _blocks(zero_pad(row, (first, (ahead + end) * axis.fold - first - known), dim + 1), size, dim)
    body = axis.length // axis.fold if after else min(axis.num_blocks, end)
    pieces = [features.narrow(dim, 0, body)]
    if ahead:
        pieces.insert(0, _head(features, taps, size, dim, ahead, before))
    if after:
        pieces.append(_tail(features, taps, size, dim, end - body, after))
    return (
        torch.cat(pieces, dim)
        if after or body == end
        else zero_pad(torch.cat(pieces, dim), (0, end - body), dim)
    )


def _head(features: Tensor, taps: AxisTaps, size: Size, dim: int, ahead: int, before: int) -> Tensor:
    """The blocks before the first; their last `before` positions are seen."""
    fold = taps.source.fold
    row = _rows(features.narrow(dim, 0, before // fold + 1 if taps.mirrored else 1), size, dim)
    seen = row.narrow(dim + 1, 1, before).flip(dim + 1) if taps.mirrored else row.narrow(dim + 1, 0, 0)
    return _blocks(zero_pad(seen, (ahead * fold - seen.shape[dim + 1], 0), dim + 1), size, dim)


def _tail(features: Tensor, taps: AxisTaps, size: Size, dim: int, num_blocks: int, after: int) -> Tensor:
    """The blocks behind the last full one: what is left of the axis, `after` seen positions behind it, zeros."""
    axis = taps.source
    first = (axis.length - 1 - after) // axis.fold if taps.mirrored else axis.length // axis.fold
    row = _rows(features.narrow(dim, first, axis.num_blocks - first), size, dim)
    row = row.narrow(dim + 1, 0, axis.length - first * axis.fold)
    left, known = axis.length % axis.fold, row.shape[dim + 1]
    pieces = [row.narrow(dim + 1, known - left, left)]
    if taps.mirrored:
        pieces.append(row.narrow(dim + 1, known - 1 - after, after).flip(dim + 1))
    seen = torch.cat(pieces, dim + 1)
    return _blocks(zero_pad(seen, (0, num_blocks * axis.fold - seen.shape[dim + 1]), dim + 1), size, dim)


def _rows(features: Tensor, size: Size, dim: int) -> Tensor:
    """(B, C f t, F/f, T/t) with one axis unfolded: (B, C, t, F, T/t) for bins, (B, C, f, F/f, T) for frames."""
    return features.unflatten(1, (-1, *size)).movedim(dim, dim + 2).flatten(dim + 1, dim + 2)


def _blocks(row: Tensor, size: Size, dim: int) -> Tensor:
    """The inverse of `_rows`."""
    return _channels_last(row.unflatten(dim + 1, (-1, size[dim - 2])).movedim(dim + 2, dim).flatten(1, 3))


def _channels_last(features: Tensor) -> Tensor:
    return features.contiguous(memory_format=torch.channels_last)
