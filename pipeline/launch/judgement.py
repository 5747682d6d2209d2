"""What is wrong, and what is odd, about the ranks of a run, from what each says about itself."""

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from pipeline.launch.card import Card
from pipeline.training.ranks.verdict import Verdict, named

_GIB = 2**30
_LEAST_BYTES = _GIB  # of disk and of host memory: with less a run ends soon
_LEAST_GPU_SHARE = 0.5  # free of a GPU that nobody else uses
_MOST_KEYS = 3  # that differ, in a message


def judge_cards(cards: Mapping[int, Card], world_size: int, waited_s: float) -> Verdict:
    """Judge the ranks of a run. Of two versions the one that most ranks have is right; of equally many, rank 0's.

    Args:
        cards: rank -> what it says, of those that came in time.
        world_size: ranks in all.
        waited_s: how long the others were waited for.
    """
    able = {rank: card for rank, card in cards.items() if card.problem is None}
    problems = [(rank, f"{card.name}: {card.problem}") for rank, card in cards.items() if card.problem]
    missing = list(_missing(cards, world_size, waited_s))
    problems += [
        *missing,
        *_other_world(able),
        *_other_code(able),
        *_other_packages(able),
        *_other_config(able),
        *_shared_gpus(able),
    ]
    hosts = len({card.host for card in cards.values()})
    ranks_on_hosts = f"{len(cards)} ranks on {hosts} host{'s' if hosts > 1 else ''}"
    line = f"roll call: {ranks_on_hosts}, {{contact}}, same code and configuration"
    return Verdict(problems, [*_scarce(able), *_mixed(able)], line, is_loss=problems == missing != [])


def _missing(cards: Mapping[int, Card], world_size: int, waited_s: float) -> Iterator[tuple[int, str]]:
    absent = [rank for rank in range(world_size) if rank not in cards]
    if absent:
        there = ", ".join(card.name for card in cards.values())
        yield (
            absent[0],
            f"{named(absent)} of {world_size} did not come within trainer.start_timeout_s={waited_s:g} "
            f"(there: {there}); see their own messages, and whether their hosts can reach rank 0",
        )


def _other_world(cards: Mapping[int, Card]) -> Iterator[tuple[int, str]]:
    right, odd = _odd({rank: card.world_size for rank, card in cards.items()})
    for rank in odd:
        yield (
            rank,
            f"{cards[rank].name}: expects {cards[rank].world_size} ranks, the others {cards[right].world_size}; "
            "give all of them the same WORLD_SIZE",
        )


def _other_code(cards: Mapping[int, Card]) -> Iterator[tuple[int, str]]:
    right, odd = _odd({rank: card.code for rank, card in cards.items()})
    for rank in odd:
        card, other = cards[rank], cards[right]
        yield (
            rank,
            f"{card.name}: another version of the code ({card.code[:12]} in {card.code_place}) than {other.name} "
            f"({other.code[:12]} in {other.code_place}); start all ranks from the same checkout",
        )


def _other_packages(cards: Mapping[int, Card]) -> Iterator[tuple[int, str]]:
    right, odd = _odd({rank: tuple(sorted(card.versions.items())) for rank, card in cards.items()})
    for rank in odd:
        theirs = cards[right].versions
        differing = [
            f"{name} {version} instead of {theirs[name]}"
            for name, version in cards[rank].versions.items()
            if version != theirs[name]
        ]
        yield rank, f"{cards[rank].name}: {', '.join(differing)}; start all ranks in the same environment"


def _other_config(cards: Mapping[int, Card]) -> Iterator[tuple[int, str]]:
    right, odd = _odd({rank: json.dumps(card.config, sort_keys=True) for rank, card in cards.items()})
    for rank in odd:
        own, theirs = _leaves(cards[rank].config), _leaves(cards[right].config)
        keys = sorted(
            key for key in own.keys() | theirs.keys() if own.get(key, "absent") != theirs.get(key, "absent")
        )
        shown = [
            f"{key}={_shown(own, key)}, {cards[right].name} has {_shown(theirs, key)}"
            for key in keys[:_MOST_KEYS]
        ]
        more = f"; and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
        yield (
            rank,
            f"{cards[rank].name}: another configuration ({'; '.join(shown)}{more}); give all ranks the same command "
            "line, conf/ and EULER_* variables",
        )


def _shared_gpus(cards: Mapping[int, Card]) -> Iterator[tuple[int, str]]:
    owners: dict[str, Card] = {}
    for rank, card in cards.items():
        identity = card.device.identity
        if identity is None:
            continue
        owner = owners.setdefault(identity, card)
        if owner is not card:
            yield (
                rank,
                f"{card.name}: trains on the same GPU as {owner.name} ({card.device.name}, {identity}); give each "
                "rank of a node its own LOCAL_RANK, and all of them the same CUDA_VISIBLE_DEVICES",
            )


def _scarce(cards: Mapping[int, Card]) -> Iterator[str]:
    """What is too little for a run to last; a host's own once."""
    for card in {card.host: card for card in reversed(list(cards.values()))}.values():
        if card.free_disk_bytes < _LEAST_BYTES:
            yield f"{card.name}: {card.free_disk_bytes / _GIB:.2f} GiB of disk free at {card.disk}"
        if card.free_memory_bytes is not None and card.free_memory_bytes < _LEAST_BYTES:
            yield f"{card.name}: {card.free_memory_bytes / _GIB:.2f} GiB of memory free"
    for card in cards.values():
        free, total = card.device.free_bytes, card.device.total_bytes
        if free is not None and total is not None and free < _LEAST_GPU_SHARE * total:
            yield (
                f"{card.name}: {free / _GIB:.1f} of {total / _GIB:.1f} GiB of GPU memory free; "
                "another process uses this GPU"
            )


def _mixed(cards: Mapping[int, Card]) -> Iterator[str]:
    """What makes ranks wait for each other, or round otherwise."""
    for what, values in (
        ("GPU models", {rank: card.device.name for rank, card in cards.items()}),
        ("GPU drivers", {rank: card.device.driver for rank, card in cards.items()}),
    ):
        right, odd = _odd(values)
        if odd:
            others = ", ".join(f"{cards[rank].name} has {values[rank]}" for rank in odd)
            yield f"different {what}: {cards[right].name} has {values[right]}, {others}"


def _odd(values: Mapping[int, Hashable]) -> tuple[int, list[int]]:
    """Return a rank whose value is right, and those whose value is not."""
    counts: dict[Hashable, int] = {}
    for rank in sorted(values):
        counts[values[rank]] = counts.get(values[rank], 0) + 1
    if not counts:
        return 0, []
    right = max(counts, key=lambda value: counts[value])  # of equals the first, that of the lowest rank
    odd = [rank for rank in sorted(values) if values[rank] != right]
    return next(rank for rank in sorted(values) if values[rank] == right), odd


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        found |= _leaves(value, f"{key}.") if isinstance(value, dict) and value else {key: value}
    return found


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "no such key"
