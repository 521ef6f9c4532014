"""Chunks a second of `wsistore serve`: tiles decoded to zstd, or sent as they are.

    python benchmarks/serving.py SLIDE [--rounds 3] [--clients 1 8]

The server runs in a process of its own, with no cache of chunks; clients are processes, too,
each with one kept-alive connection and as little work as can be. All chunks of level 0 are
asked for, by each client in an order of its own.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import random
import time
from typing import Any
from urllib.parse import urlsplit

import wsistore
from wsistore.serving import SlideServer


def serve(slide: str, options: dict[str, Any], told: Any) -> None:
    with SlideServer([slide], **options) as server:
        told.send((server.slides[0].url, None))
        told.recv()


def ask(url: str, keys: list[str], seed: int, start: Any, results: Any) -> None:
    parts = urlsplit(url)
    keys = random.Random(seed).sample(keys, len(keys))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def all_of_them() -> int:
        size = 0
        for key in keys:
            connection.request("GET", f"{parts.path}{key}")
            answer = connection.getresponse()
            size += len(answer.read())
            assert answer.status == 200, answer.status
        return size

    all_of_them()  # opens the connection and the slide's file, and fills the cache
    start.wait()
    results.put(all_of_them())
    connection.close()


def rate(context: Any, slide: str, options: dict[str, Any], keys: list[str], clients: int) -> float:
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(slide, options, theirs))
    server.start()
    url, _ = ours.recv()
    start, results = context.Barrier(clients + 1), context.Queue()
    crew = [
        context.Process(target=ask, args=(url, keys, seed, start, results))
        for seed in range(clients)
    ]
    for client in crew:
        client.start()
    start.wait()
    began = time.perf_counter()
    sizes = [results.get() for _ in crew]
    spent = time.perf_counter() - began
    for client in crew:
        client.join()
    ours.send(None)
    server.join()
    assert len(set(sizes)) == 1
    return clients * len(keys) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with wsistore.open_slide(arguments.slide) as slide:
        table = slide.tile_table(0)
        assert table is not None
        counts = table.counts
    keys = [f"0/c/0/{y}/{x}" for y, row in enumerate(counts) for x, n in enumerate(row) if n]
    ways: dict[str, dict[str, Any]] = {
        "portable": {"codec": "portable", "cache_bytes": 0},
        "portable, cached": {"codec": "portable"},
        "unchanged": {"codec": "unchanged", "cache_bytes": 0},
    }
    print(f"{len(keys)} chunks, {counts.sum() / len(keys) / 1e3:.1f} kB each in the slide")
    for clients in arguments.clients:
        for name, options in ways.items():
            rates = [
                rate(context, arguments.slide, options, keys, clients)
                for _ in range(arguments.rounds)
            ]
            print(f"{clients} clients, {name:17s} {max(rates):7.0f} chunks/s (best of rounds)")


if __name__ == "__main__":
    main()
