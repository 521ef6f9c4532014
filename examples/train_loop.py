"""Train a small network on patches of a folder of slides, and go on after an interruption.

    python examples/train_loop.py                       # synthetic slides
    python examples/train_loop.py FOLDER --workers 4    # your slides, worker processes

The task is a toy: tell which slide a patch comes from, each slide being a class. Run it
twice with the same ``--state FILE`` and the second run takes up where the first one stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from wsistore import TileDataset, TileIndex, TileSampler, TileStream
from wsistore.testing import write_slide
from wsistore.tiles import collate_tiles

Loader = Iterable[dict[str, torch.Tensor]]


def make_loader(sampler: TileSampler, workers: int) -> Loader:
    """Return batches read by threads of this process, or by worker processes."""
    if workers == 0:
        return TileStream(sampler, 128, "10x", channels_last=True)
    data = TileDataset(sampler.index, 128, "10x", channels_last=True)
    return DataLoader(
        data,
        batch_sampler=sampler,
        collate_fn=collate_tiles,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",  # forking beside torch's threads may hang
    )


def train(folder: Path, workers: int, epochs: int, steps: int, state: Path | None) -> None:
    """Train for some epochs, at most `steps` steps in this run."""
    slides = sorted(folder.glob("*.svs"))
    index = TileIndex.from_grids(slides, 128, "10x", stride=32, labels=range(len(slides)))
    sampler = TileSampler(index, batch_size=16, seed=1, balance="slide", epoch_size=len(index) // 2)
    loader = make_loader(sampler, workers)

    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, len(slides)),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    if state is not None and state.exists():
        saved = torch.load(state, weights_only=True)
        sampler.load_state_dict(saved["sampler"])
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
    for epoch in range(sampler.epoch, epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            images = batch["image"].float() / 255
            loss = torch.nn.functional.cross_entropy(network(images), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"epoch {epoch}, batch {batch['number']}: loss {loss.item():.3f}")
            if state is not None:
                saved = {
                    "sampler": sampler.state_dict(after=batch),
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                }
                torch.save(saved, state)
            steps -= 1
            if steps == 0:
                return


def main() -> None:
    """Train on the folder that the command line names, or on slides made for it."""
    parser = argparse.ArgumentParser(description="Train on patches of a folder of slides.")
    parser.add_argument("folder", nargs="?", type=Path, help="default: synthetic slides")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 reads with threads")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many; 0: never")
    parser.add_argument("--state", type=Path, help="file that remembers where the run stands")
    options = parser.parse_args()
    run = (options.workers, options.epochs, options.steps, options.state)
    if options.folder is not None:
        train(options.folder, *run)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            write_slide(Path(folder) / f"{number}.svs", size=(700, 600), seed=number)
        train(Path(folder), *run)


if __name__ == "__main__":
    main()
